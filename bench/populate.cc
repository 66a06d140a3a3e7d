#include "bench/populate.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "backend/base/fd.h"
#include "backend/ram_region.h"

namespace vmhop::bench {
namespace {

constexpr uint32_t kPage = 4096;

// The memory file that has the size of the RAM, among what QEMU has open.
Result<UniqueFd> open_ram(pid_t qemu, uint64_t ram_bytes) {
  std::string directory = fmt::format("/proc/{}/fd", qemu);
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    std::string target = std::filesystem::read_symlink(entry.path(), ignored).string();
    if (!target.ends_with(" (deleted)")) continue;
    UniqueFd fd(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
    struct stat info {};
    if (!fd.valid() || ::fstat(fd.get(), &info) != 0) continue;
    if (static_cast<uint64_t>(info.st_size) == ram_bytes) return fd;
  }
  return errorf("{} has no memory file of {} bytes open", directory, ram_bytes);
}

ExtentList holes_between(const ExtentList& extents, uint64_t from, uint64_t until) {
  const Extent all{from, until - from};
  return difference(std::span(&all, 1), extents);
}

}  // namespace

Result<double> populate(pid_t qemu, uint64_t ram_bytes, uint64_t from) {
  VMHOP_ASSIGN(UniqueFd memory, open_ram(qemu, ram_bytes));
  VMHOP_ASSIGN(RamRegion ram,
               RamRegion::map({"ram", ram_bytes, kPage}, std::move(memory), Access::kReadWrite));
  VMHOP_ASSIGN(ExtentList touched, ram.populated_extents());
  // As in the guest's own mapping.
  (void)::madvise(ram.alias(), ram_bytes, MADV_HUGEPAGE);
  uint64_t sparse_until = from + (ram_bytes - from) / 4;
  for (const Extent& hole : holes_between(touched, from, ram_bytes)) {
    for (uint64_t offset = hole.offset; offset < hole.end(); offset += kPage) {
      if (offset < sparse_until && offset / kPage % 2 == 1) continue;
      // Pages that differ and compress badly, like most of a real guest's.
      auto* words = reinterpret_cast<uint64_t*>(ram.alias() + offset);
      for (uint64_t i = 0; i < kPage / sizeof(uint64_t); ++i)
        words[i] = (offset + i + 1) * 0x9e3779b97f4a7c15;
    }
  }
  VMHOP_ASSIGN(ExtentList extents, ram.populated_extents());
  return static_cast<double>(total_length(extents)) / static_cast<double>(ram_bytes);
}

Status warm_free_memory(uint64_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return Error::from_errno("mmap of free memory", errno);
  (void)::madvise(memory, bytes, MADV_HUGEPAGE);
  int touched = ::madvise(memory, bytes, MADV_POPULATE_WRITE);
  int cause = errno;
  ::munmap(memory, bytes);
  if (touched != 0) return Error::from_errno("touching free memory", cause);
  return ok_status();
}

}  // namespace vmhop::bench

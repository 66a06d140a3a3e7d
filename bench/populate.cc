#include "bench/populate.h"

#include <fcntl.h>
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

// The memfd that has the size of the RAM, among what QEMU has open.
Result<UniqueFd> open_ram(pid_t qemu, uint64_t ram_bytes) {
  std::string directory = fmt::format("/proc/{}/fd", qemu);
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    std::string target = std::filesystem::read_symlink(entry.path(), ignored).string();
    if (target.find("memfd:") == std::string::npos) continue;
    UniqueFd fd(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
    struct stat info {};
    if (!fd.valid() || ::fstat(fd.get(), &info) != 0) continue;
    if (static_cast<uint64_t>(info.st_size) == ram_bytes) return fd;
  }
  return errorf("{} has no memory file of {} bytes open", directory, ram_bytes);
}

}  // namespace

Result<double> populate(pid_t qemu, uint64_t ram_bytes, uint64_t from) {
  VMHOP_ASSIGN(UniqueFd memory, open_ram(qemu, ram_bytes));
  VMHOP_ASSIGN(RamRegion ram,
               RamRegion::map({"ram", ram_bytes, kPage}, std::move(memory), Access::kReadWrite));
  uint64_t sparse_until = from + (ram_bytes - from) / 4;
  for (uint64_t offset = from; offset < ram_bytes; offset += kPage) {
    if (offset < sparse_until && offset / kPage % 2 == 1) continue;
    VMHOP_ASSIGN(bool there, ram.is_populated(offset));
    // Pages that differ and compress badly, like most of a real guest's.
    if (!there) {
      auto* words = reinterpret_cast<uint64_t*>(ram.alias() + offset);
      for (uint64_t i = 0; i < kPage / sizeof(uint64_t); ++i)
        words[i] = (offset + i + 1) * 0x9e3779b97f4a7c15;
    }
  }
  VMHOP_ASSIGN(ExtentList extents, ram.populated_extents());
  return static_cast<double>(total_length(extents)) / static_cast<double>(ram_bytes);
}

}  // namespace vmhop::bench

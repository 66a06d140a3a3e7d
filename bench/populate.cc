#include "bench/populate.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "backend/base/fd.h"
#include "backend/ram_region.h"

namespace vmhop::bench {
namespace {

constexpr uint64_t kPage = 4096;

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

// Pages that differ and compress badly, like most of a real guest's. Written to the file, which is
// quicker than page faults, and takes huge pages as those of the guest would.
Status write_pages(int memory, Extent pages) {
  constexpr uint64_t kPiece = 256 << 10;
  std::vector<uint64_t> words(std::min(pages.length, kPiece) / sizeof(uint64_t));
  for (uint64_t at = pages.offset; at < pages.end();) {
    uint64_t length = std::min(kPiece, pages.end() - at);
    for (uint64_t i = 0; i < length / sizeof(uint64_t); ++i)
      words[i] = (at + i + 1) * 0x9e3779b97f4a7c15;
    ssize_t written = ::pwrite(memory, words.data(), length, static_cast<off_t>(at));
    if (written < 0) return Error::from_errno("writing to the RAM", errno);
    if (written % kPage != 0) return Error("half of a page was written");
    at += static_cast<uint64_t>(written);
  }
  return ok_status();
}

Status fill_hole(int memory, Extent hole, uint64_t sparse_until) {
  for (; hole.offset < std::min(hole.end(), sparse_until);
       hole = {hole.offset + kPage, hole.length - kPage}) {
    if (hole.offset / kPage % 2 == 0) VMHOP_TRY(write_pages(memory, {hole.offset, kPage}));
  }
  return write_pages(memory, hole);
}

}  // namespace

Result<double> populate(pid_t qemu, uint64_t ram_bytes, uint64_t from) {
  VMHOP_ASSIGN(UniqueFd memory, open_ram(qemu, ram_bytes));
  VMHOP_ASSIGN(UniqueFd mapped, memory.duplicate());
  VMHOP_ASSIGN(RamRegion ram, RamRegion::map({"ram", ram_bytes, uint32_t{kPage}}, std::move(mapped),
                                             Access::kRead));
  VMHOP_ASSIGN(ExtentList populated, ram.populated_extents());
  uint64_t sparse_until = from + (ram_bytes - from) / 4;
  uint64_t at = from;
  populated.push_back({ram_bytes, 0});
  for (const Extent& extent : populated) {
    if (extent.offset > at)
      VMHOP_TRY(fill_hole(memory.get(), {at, extent.offset - at}, sparse_until));
    at = std::max(at, extent.end());
  }
  VMHOP_ASSIGN(populated, ram.populated_extents());
  return static_cast<double>(total_length(populated)) / static_cast<double>(ram_bytes);
}

}  // namespace vmhop::bench

#include "backend/base/ram_file.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

namespace vmhop {
namespace {

// Invalid when this process or this kernel cannot: errno says why, and nobody asks.
UniqueFd mount_huge_tmpfs() {
  UniqueFd none;
  UniqueFd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context.valid()) return none;
  auto set = [&](const char* key, const char* value) {
    return ::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0) == 0;
  };
  // Sizes 0: without the limits (half of RAM) that a tmpfs has and a memfd has not.
  if (!set("huge", "within_size") || !set("size", "0") || !set("nr_inodes", "0") ||
      !set("mode", "0700")) {
    return none;
  }
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return none;
  return UniqueFd(
      ::fsmount(context.get(), FSMOUNT_CLOEXEC,
                MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME));
}

}  // namespace

Result<UniqueFd> create_ram_file(const std::string& name, uint64_t size) {
  UniqueFd mount = mount_huge_tmpfs();
  if (!mount.valid()) return create_memfd(name, size);
  // The file keeps its tmpfs alive, and is all there is of it.
  UniqueFd file(::openat(mount.get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return Error::from_errno("making the memory file " + name, errno);
  if (::unlinkat(mount.get(), name.c_str(), 0) != 0) {
    return Error::from_errno("hiding the memory file " + name, errno);
  }
  if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0) {
    return Error::from_errno(fmt::format("sizing memory file {} to {} bytes", name, size), errno);
  }
  return file;
}

}  // namespace vmhop

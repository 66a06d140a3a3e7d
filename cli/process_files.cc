#include "cli/process_files.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "backend/userfault.h"

namespace vmhop {
namespace {

namespace fs = std::filesystem;

bool is_userfaultfd(const std::string& target) {
  return target == "anon_inode:[userfaultfd]";
}

}  // namespace

Result<std::vector<ProcessFile>> list_process_files(
    pid_t pid, const std::function<bool(const std::string& target)>& wanted) {
  std::vector<ProcessFile> files;
  fs::path directory = fmt::format("/proc/{}/fd", pid);
  std::error_code failure;
  fs::directory_iterator entries(directory, failure);
  for (; !failure && entries != fs::directory_iterator(); entries.increment(failure)) {
    std::error_code gone;
    std::string target = fs::read_symlink(entries->path(), gone).string();
    if (gone || !wanted(target)) continue;
    files.push_back({std::atoi(entries->path().filename().c_str()), std::move(target)});
  }
  if (failure) {
    return errorf(
        "looking at the files of process {}: {}. vmhop must be the same user's, or root's", pid,
        failure.message());
  }
  std::sort(files.begin(), files.end(),
            [](const auto& left, const auto& right) { return left.number < right.number; });
  return files;
}

Result<UniqueFd> copy_process_file(int pidfd, int number) {
  UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, number, 0)));
  if (copy.valid()) return copy;
  Error cause = Error::from_errno("copying an open file of QEMU", errno);
  if (errno != EPERM) return cause;
  return refusedf(
      "{}. Who recovers a VM must be allowed to debug its QEMU: the same user with "
      "kernel.yama.ptrace_scope=0, or root",
      cause.message());
}

Result<UniqueFd> any_userfaultfd(pid_t pid, int pidfd) {
  VMHOP_ASSIGN(auto files, list_process_files(pid, is_userfaultfd));
  if (files.empty()) return Error("QEMU has no userfaultfd");
  return copy_process_file(pidfd, files.front().number);
}

// A range belongs to one userfaultfd: registering it again works with that one alone.
Result<UniqueFd> find_userfaultfd(pid_t pid, int pidfd, uint64_t address, uint64_t length) {
  VMHOP_ASSIGN(auto files, list_process_files(pid, is_userfaultfd));
  for (const ProcessFile& file : files) {
    VMHOP_ASSIGN(UniqueFd copy, copy_process_file(pidfd, file.number));
    VMHOP_ASSIGN(UniqueFd another, copy.duplicate());
    Userfault tried(std::move(another));
    if (tried.register_range(address, length)) return copy;
  }
  return errorf(
      "none of QEMU's {} userfaultfds has its memory at {:#x} registered: nothing can install its "
      "missing pages",
      files.size(), address);
}

}  // namespace vmhop

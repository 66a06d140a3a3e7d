// The open files of another process of this user: how a new supervisor gets at what a dead one had
// set up for its QEMU.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

struct ProcessFile {
  int number = 0;
  std::string target;  // as /proc shows it: "/memfd:name (deleted)"
};
// Those of process `pid` whose target `wanted` says yes to, by number.
Result<std::vector<ProcessFile>> list_process_files(
    pid_t pid, const std::function<bool(const std::string& target)>& wanted);

// The very file that process has open at `number`, a userfaultfd for example. Needs what a debugger
// needs: the same user, and no stricter kernel.yama.ptrace_scope than 0; or CAP_SYS_PTRACE.
Result<UniqueFd> copy_process_file(int pidfd, int number);

// The userfaultfd of process `pid` that `length` bytes at `address` in it are registered with. It
// must be one of them: what is registered with none would be.
// (What any_userfaultfd() returns is for a VM that needs none any more.)
Result<UniqueFd> any_userfaultfd(pid_t pid, int pidfd);
Result<UniqueFd> find_userfaultfd(pid_t pid, int pidfd, uint64_t address, uint64_t length);

}  // namespace vmhop

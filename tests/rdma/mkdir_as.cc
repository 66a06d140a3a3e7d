// vmhop-lab-mkdir-as PID PATH: has a process that waits in a system call make a directory, and
// prints how that ended for it ("made", or errno's text). Nothing in /proc says whether Landlock
// holds a process; this does, since its filter of system calls lets mkdir() through. Needs
// CAP_SYS_PTRACE.
#include <fmt/format.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>

#include "backend/base/result.h"

namespace vmhop::lab {
namespace {

using Registers = user_regs_struct;

constexpr unsigned long long kBelowRedZone = 1024;
constexpr unsigned long kSystemCall = 0x050f;  // the instruction
constexpr size_t kSystemCallSize = 2;
// What a system call that was interrupted would have the kernel do; user space never sees these.
constexpr long kFirstRestart = -516;
constexpr long kLastRestart = -512;

void* pointer(unsigned long long address) {
  return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr)
}

class Traced {
 public:
  static Result<Traced> stop(pid_t pid) {
    if (::ptrace(PTRACE_SEIZE, pid, nullptr, pointer(PTRACE_O_TRACESYSGOOD)) != 0) {
      return Error::from_errno("PTRACE_SEIZE", errno);
    }
    Traced traced(pid);
    if (::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0) {
      return Error::from_errno("PTRACE_INTERRUPT", errno);
    }
    VMHOP_TRY(traced.wait());
    return traced;
  }
  Traced(Traced&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
  Traced& operator=(Traced&&) = delete;
  Traced(const Traced&) = delete;
  Traced& operator=(const Traced&) = delete;
  ~Traced() {
    if (pid_ != 0) ::ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
  }

  Result<Registers> registers() const {
    Registers registers{};
    if (::ptrace(PTRACE_GETREGS, pid_, nullptr, &registers) != 0) {
      return Error::from_errno("PTRACE_GETREGS", errno);
    }
    return registers;
  }
  Status set(Registers registers) const {
    if (::ptrace(PTRACE_SETREGS, pid_, nullptr, &registers) == 0) return ok_status();
    return Error::from_errno("PTRACE_SETREGS", errno);
  }
  bool stands_behind_system_call(const Registers& registers) const {
    errno = 0;
    long code = ::ptrace(PTRACE_PEEKTEXT, pid_, pointer(registers.rip - kSystemCallSize), nullptr);
    return errno == 0 && (static_cast<unsigned long>(code) & 0xffff) == kSystemCall;
  }
  Status write(unsigned long long address, std::string_view text) const {
    for (size_t at = 0; at <= text.size(); at += sizeof(long)) {  // with a 0 at its end
      long word = 0;
      std::memcpy(&word, text.data() + at, std::min(sizeof word, text.size() - at));
      if (::ptrace(PTRACE_POKEDATA, pid_, pointer(address + at), word) != 0) {
        return Error::from_errno("PTRACE_POKEDATA", errno);
      }
    }
    return ok_status();
  }
  // To the beginning of a system call, or to its end.
  Status step() const {
    if (::ptrace(PTRACE_SYSCALL, pid_, nullptr, nullptr) != 0) {
      return Error::from_errno("PTRACE_SYSCALL", errno);
    }
    return wait();
  }

 private:
  explicit Traced(pid_t pid) : pid_(pid) {}
  Status wait() const {
    int status = 0;
    if (::waitpid(pid_, &status, __WALL) != pid_) return Error::from_errno("waitpid", errno);
    return WIFSTOPPED(status) ? ok_status() : Status(Error("it has ended"));
  }

  pid_t pid_;
};

// What mkdir() of the other process returns.
Result<long> mkdir_as(const Traced& traced, std::string_view path) {
  VMHOP_ASSIGN(Registers before, traced.registers());
  if (!traced.stands_behind_system_call(before)) return Error("it is in no system call");
  Registers call = before;
  call.rip -= kSystemCallSize;
  call.orig_rax = ~0ULL;  // nothing to begin again
  call.rax = SYS_mkdir;
  call.rdi = (before.rsp - kBelowRedZone - path.size()) & ~15ULL;
  call.rsi = 0700;
  VMHOP_TRY(traced.write(call.rdi, path));
  VMHOP_TRY(traced.set(call));
  VMHOP_TRY(traced.step());
  VMHOP_TRY(traced.step());
  VMHOP_ASSIGN(Registers after, traced.registers());
  auto left = static_cast<long>(before.rax);
  if (left >= kFirstRestart && left <= kLastRestart)
    before.rax = static_cast<unsigned long>(-EINTR);
  before.orig_rax = ~0ULL;
  VMHOP_TRY(traced.set(before));
  return static_cast<long>(after.rax);
}

Result<std::string> run(pid_t pid, std::string_view path) {
  VMHOP_ASSIGN(Traced traced, Traced::stop(pid));
  VMHOP_ASSIGN(long result, mkdir_as(traced, path));
  if (result == 0) return std::string("made");
  return std::generic_category().message(static_cast<int>(-result));
}

}  // namespace
}  // namespace vmhop::lab

int main(int argc, char** argv) {
  std::string_view number = argc == 3 ? argv[1] : "";
  pid_t pid = 0;
  std::from_chars(number.data(), number.data() + number.size(), pid);
  if (pid <= 0) {
    fmt::print(stderr, "vmhop-lab-mkdir-as PID PATH\n");
    return 2;
  }
  auto ended = vmhop::lab::run(pid, argv[2]);
  if (!ended) {
    fmt::print(stderr, "vmhop-lab-mkdir-as: {}\n", ended.error().message());
    return 1;
  }
  fmt::print("{}\n", *ended);
  return 0;
}

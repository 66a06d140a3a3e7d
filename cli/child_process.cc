#include "cli/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace vmhop {
namespace {

// Everything the child touches between fork and exec, made before the fork: in a program with
// threads only async-signal-safe calls are allowed there.
struct ExecPlan {
  std::vector<std::string> environment;
  std::vector<char*> argv;
  std::vector<char*> envp;
  sigset_t mask;
  bool detached;
};

ExecPlan make_plan(const ChildSpec& spec) {
  ExecPlan plan;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view text(*entry);
    bool replaced = false;
    for (const auto& [name, value] : spec.environment) {
      replaced = replaced || text.starts_with(name + "=");
    }
    if (!replaced) plan.environment.emplace_back(text);
  }
  for (const auto& [name, value] : spec.environment)
    plan.environment.push_back(fmt::format("{}={}", name, value));
  for (const std::string& argument : spec.argv)
    plan.argv.push_back(const_cast<char*>(argument.c_str()));
  plan.argv.push_back(nullptr);
  for (const std::string& entry : plan.environment)
    plan.envp.push_back(const_cast<char*>(entry.c_str()));
  plan.envp.push_back(nullptr);
  sigemptyset(&plan.mask);
  plan.detached = spec.kind == ChildSpec::Kind::kDetached;
  if (!plan.detached) {
    for (int number : {SIGINT, SIGQUIT, SIGHUP})
      sigaddset(&plan.mask, number);
  }
  return plan;
}

void redirect_to_null() {
  int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return;
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
}

bool keep(int fd) {
  return ::fcntl(fd, F_SETFD, 0) == 0;
}

// In the child: never returns. Writes errno to `report` when the program cannot be executed.
[[noreturn]] void become(const ChildSpec& spec, const ExecPlan& plan, int report) {
  bool fine = true;
  if (plan.detached) {
    ::setsid();
    redirect_to_null();
  }
  for (int fd : spec.inherited)
    fine = fine && keep(fd);
  if (spec.standard_output >= 0) {
    fine = fine && ::dup2(spec.standard_output, STDOUT_FILENO) == STDOUT_FILENO;
  }
  if (spec.standard_input >= 0) {
    fine = fine && ::dup2(spec.standard_input, STDIN_FILENO) == STDIN_FILENO;
  }
  if (spec.standard_error >= 0) {
    fine = fine && ::dup2(spec.standard_error, STDERR_FILENO) == STDERR_FILENO;
  }
  if (spec.as_fd_3 == 3) {
    fine = fine && keep(3);
  } else if (spec.as_fd_3 >= 0) {
    fine = fine && ::dup2(spec.as_fd_3, 3) == 3;
  }
  // A helper inherits nothing by accident, not even what vmhop itself was given.
  if (plan.detached) ::syscall(SYS_close_range, 4U, ~0U, CLOSE_RANGE_CLOEXEC);
  for (int number : {SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGPIPE, SIGCHLD})
    ::signal(number, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &plan.mask, nullptr);
  if (fine) ::execvpe(spec.program.c_str(), plan.argv.data(), plan.envp.data());
  int cause = errno;
  [[maybe_unused]] ssize_t written = ::write(report, &cause, sizeof cause);
  ::_exit(127);
}

}  // namespace

std::string ExitStatus::describe() const {
  if (unknown) return "exited";
  if (signal != 0) return fmt::format("was killed by signal {} ({})", signal, ::strsignal(signal));
  return fmt::format("exited with code {}", code);
}

Result<ProcessIdentity> identify_process(pid_t pid) {
  auto stat = read_file(fmt::format("/proc/{}/stat", pid), 4096);
  if (!stat) return Error(fmt::format("there is no process {}", pid), ErrorKind::kClosed);
  // The name, in parentheses, may hold anything; the state follows it, field 22 is the start time.
  std::string_view text(*stat);
  text.remove_prefix(std::min(text.rfind(')') + 2, text.size()));
  if (text.empty() || text[0] == 'Z' || text[0] == 'X') {
    return Error(fmt::format("process {} has ended", pid), ErrorKind::kClosed);
  }
  for (int field = 3; field < 22; ++field) {
    size_t space = text.find(' ');
    if (space == std::string_view::npos) return errorf("/proc/{}/stat is cut short", pid);
    text.remove_prefix(space + 1);
  }
  ProcessIdentity identity{pid, 0};
  auto parsed = std::from_chars(text.data(), text.data() + text.size(), identity.start_time);
  if (parsed.ec != std::errc{}) return errorf("/proc/{}/stat has no start time", pid);
  return identity;
}

bool is_alive(const ProcessIdentity& identity) {
  if (identity.pid <= 0) return false;
  auto now = identify_process(identity.pid);
  return now.ok() && *now == identity;
}

Status signal_process(const ProcessIdentity& identity, int signal) {
  if (identity.pid <= 0) return ok_status();
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, identity.pid, 0)));
  if (!pidfd.valid()) {
    if (errno == ESRCH) return ok_status();
    return Error::from_errno(fmt::format("opening process {}", identity.pid), errno);
  }
  // Checked after the pidfd pins the number: what is signalled is what was looked at.
  if (!is_alive(identity)) return ok_status();
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) != 0 && errno != ESRCH) {
    return Error::from_errno(fmt::format("signalling process {}", identity.pid), errno);
  }
  return ok_status();
}

Result<std::shared_ptr<ChildProcess>> ChildProcess::spawn(const ChildSpec& spec) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno("pipe", errno);
  UniqueFd read_end(ends[0]);
  // Above 3, where a helper gets its control socket.
  UniqueFd write_end(ends[1]);
  UniqueFd report(::fcntl(write_end.get(), F_DUPFD_CLOEXEC, 4));
  write_end.reset();
  if (!report.valid()) return Error::from_errno("duplicating a file descriptor", errno);

  ExecPlan plan = make_plan(spec);
  pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno("fork", errno);
  if (pid == 0) become(spec, plan, report.get());
  report.reset();

  int cause = 0;
  ssize_t got = 0;
  do {
    got = ::read(read_end.get(), &cause, sizeof cause);
  } while (got < 0 && errno == EINTR);
  if (got == sizeof cause) {
    ::waitpid(pid, nullptr, 0);
    return Error::from_errno("starting " + spec.program, cause);
  }
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) {
    int open_errno = errno;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return Error::from_errno("pidfd_open (Linux 5.3 or newer is needed)", open_errno);
  }
  // It may have exited already: then its start time no longer matters to anyone.
  auto identity = identify_process(pid);
  return std::shared_ptr<ChildProcess>(
      new ChildProcess(identity ? *identity : ProcessIdentity{pid, 0}, std::move(pidfd), false));
}

Result<std::shared_ptr<ChildProcess>> ChildProcess::adopt(pid_t pid) {
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) {
    if (errno == ESRCH)
      return Error(fmt::format("there is no process {}", pid), ErrorKind::kClosed);
    return Error::from_errno(fmt::format("opening process {}", pid), errno);
  }
  VMHOP_ASSIGN(ProcessIdentity identity, identify_process(pid));
  return std::shared_ptr<ChildProcess>(new ChildProcess(identity, std::move(pidfd), true));
}

void ChildProcess::signal(int number) const {
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

bool ChildProcess::may_signal() const {
  return ::syscall(SYS_pidfd_send_signal, pidfd_.get(), 0, nullptr, 0) == 0 || errno == ESRCH;
}

std::optional<ExitStatus> ChildProcess::poll() {
  std::lock_guard lock(reaping_);
  if (status_) return status_;
  if (adopted_) {
    auto ended = wait_fd(pidfd_.get(), POLLIN, 0);
    if (ended && *ended != 0) status_ = ExitStatus{0, 0, true};
    return status_;
  }
  siginfo_t info{};
  if (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.get()), &info,
               WEXITED | WNOHANG) != 0) {
    // Somebody else reaped it: only a bug could, and the process is gone all the same.
    if (errno == ECHILD) status_ = ExitStatus{255, 0};
    return status_;
  }
  if (info.si_pid == 0) return std::nullopt;
  status_ =
      info.si_code == CLD_EXITED ? ExitStatus{info.si_status, 0} : ExitStatus{0, info.si_status};
  return status_;
}

Result<ExitStatus> ChildProcess::wait(std::chrono::milliseconds timeout) {
  if (auto status = poll()) return *status;
  VMHOP_TRY(wait_fd(pidfd_.get(), POLLIN, static_cast<int>(timeout.count())));
  if (auto status = poll()) return *status;
  return Error(fmt::format("process {} still runs", identity_.pid), ErrorKind::kTimedOut);
}

ExitStatus ChildProcess::kill_and_reap() {
  signal(SIGKILL);
  for (;;) {
    if (auto status = wait(std::chrono::hours(1)); status) return *status;
  }
}

}  // namespace vmhop

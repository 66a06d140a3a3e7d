#include "tests/lab/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace vmhop::lab {
namespace {

constexpr size_t kMostOutput = size_t{64} << 20;

Result<UniqueFd> create_file(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
  if (!file.valid()) return Error::from_errno("creating " + path, errno);
  return file;
}

Result<UniqueFd> input_file(const std::string& input) {
  if (input.empty()) {
    UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!null.valid()) return Error::from_errno("opening /dev/null", errno);
    return null;
  }
  UniqueFd file(::memfd_create("lab-input", MFD_CLOEXEC));
  if (!file.valid()) return Error::from_errno("memfd_create", errno);
  VMHOP_TRY(write_all(file.get(), std::as_bytes(std::span(input))));
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return Error::from_errno("lseek", errno);
  return file;
}

// All that the child touches between fork and exec: no memory is allocated there.
struct ExecPlan {
  std::vector<std::string> environment;
  std::vector<char*> argv;
  std::vector<char*> envp;
  std::array<int, 3> standard{};
  int terminal = -1;
  int network = -1;
  pid_t parent = 0;

  ExecPlan(const ProcessSpec& spec, int in, int out, int err)
      : standard{in, out, err},
        terminal(spec.terminal),
        network(spec.where != nullptr ? spec.where->fd() : -1),
        parent(::getpid()) {
    for (char** entry = environ; *entry != nullptr; ++entry)
      environment.emplace_back(*entry);
    for (const auto& [name, value] : spec.environment) {
      std::erase_if(environment, [&](const auto& entry) { return entry.starts_with(name + "="); });
      environment.push_back(name + "=" + value);
    }
    for (const std::string& argument : spec.argv)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    for (const std::string& entry : environment)
      envp.push_back(const_cast<char*>(entry.c_str()));
    envp.push_back(nullptr);
  }
};

[[noreturn]] void become(const ExecPlan& plan) {
  bool has_terminal = plan.terminal >= 0;
  // Leading a session is leading a process group, too.
  bool fine = (has_terminal ? ::setsid() >= 0 : ::setpgid(0, 0) == 0);
  fine = fine && (!has_terminal || ::ioctl(plan.terminal, TIOCSCTTY, 0) == 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  fine = fine && ::getppid() == plan.parent;
  fine = fine && (plan.network < 0 || ::setns(plan.network, CLONE_NEWNET) == 0);
  for (int fd = 0; fd < 3; ++fd)
    fine = fine &&
           ::dup2(has_terminal ? plan.terminal : plan.standard[static_cast<size_t>(fd)], fd) == fd;
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number : {SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGPIPE})
    ::signal(number, SIG_DFL);
  if (fine) ::execvpe(plan.argv[0], plan.argv.data(), plan.envp.data());
  ::perror(plan.argv[0]);
  ::_exit(127);
}

std::string contents(const std::string& path) {
  auto text = read_file(path, kMostOutput);
  return text ? *text : std::string();
}

}  // namespace

Result<Process> Process::start(const ProcessSpec& spec) {
  VMHOP_ASSIGN(UniqueFd in, input_file(spec.input));
  VMHOP_ASSIGN(UniqueFd out, create_file(spec.output + ".out"));
  VMHOP_ASSIGN(UniqueFd err, create_file(spec.output + ".err"));
  ExecPlan plan(spec, in.get(), out.get(), err.get());
  pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno("fork", errno);
  if (pid == 0) become(plan);
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) return Error::from_errno("pidfd_open", errno);
  return Process(pid, std::move(pidfd), spec.argv[0], spec.output);
}

Process& Process::operator=(Process&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(pidfd_, other.pidfd_);
  std::swap(program_, other.program_);
  std::swap(output_, other.output_);
  std::swap(status_, other.status_);
  return *this;
}

Process::~Process() {
  if (!pidfd_.valid() || status_) return;
  // Its group first, which cannot be another one's while its leader is not reaped.
  ::kill(-pid_, SIGKILL);
  signal(SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Process::signal(int number) const {
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

bool Process::running() {
  return !wait(Clock::now()).ok();
}

Result<ExitStatus> Process::wait(Deadline deadline) {
  if (status_) return *status_;
  VMHOP_ASSIGN(short events, wait_fd(pidfd_.get(), POLLIN, milliseconds_until(deadline)));
  int status = 0;
  if (events == 0) {
    return Error(fmt::format("{} (process {}) still runs", program_, pid_), ErrorKind::kTimedOut);
  }
  if (::waitpid(pid_, &status, 0) != pid_) return Error::from_errno("waitpid", errno);
  status_ =
      WIFSIGNALED(status) ? ExitStatus{0, WTERMSIG(status)} : ExitStatus{WEXITSTATUS(status), 0};
  return *status_;
}

std::string Process::out() const {
  return contents(output_ + ".out");
}

std::string Process::err() const {
  return contents(output_ + ".err");
}

Status Process::wait_for_out(const Seen& seen, Deadline deadline) {
  return wait_for_file(output_ + ".out", seen, deadline);
}

Status Process::wait_for_err(const Seen& seen, Deadline deadline) {
  return wait_for_file(output_ + ".err", seen, deadline);
}

Status Process::wait_for_file(const std::string& path, const Seen& seen, Deadline deadline) {
  UniqueFd changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!changes.valid()) return Error::from_errno("inotify_init1", errno);
  if (::inotify_add_watch(changes.get(), path.c_str(), IN_MODIFY) < 0) {
    return Error::from_errno("watching " + path, errno);
  }
  for (;;) {
    bool ended = !running();
    std::string text = contents(path);
    if (seen(text)) return ok_status();
    if (ended || Clock::now() >= deadline) {
      return errorf("{} {} without the expected output; it wrote:\n{}", program_,
                    ended ? status_->describe() : "came to the deadline", last_lines(text, 15));
    }
    std::array<pollfd, 2> polled{{{changes.get(), POLLIN, 0}, {pidfd_.get(), POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), milliseconds_until(deadline)) < 0 && errno != EINTR) {
      return Error::from_errno("poll", errno);
    }
    std::array<char, 4096> events{};
    while (::read(changes.get(), events.data(), events.size()) > 0) {
    }
  }
}

Result<std::chrono::nanoseconds> cpu_time(pid_t pid) {
  clockid_t clock = 0;
  timespec used{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &used) != 0) {
    return errorf("there is no process {}", pid);
  }
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

Result<std::string> run_tool(const std::string& directory, std::vector<std::string> argv,
                             const Namespace* where, std::string input) {
  static std::atomic<unsigned> count{0};
  std::string output = fmt::format("{}/tool-{}", directory, ++count);
  std::string program = argv[0];
  auto process = Process::start({std::move(argv), where, {}, output, std::move(input)});
  if (!process) return process.error();
  auto status = process->wait(within(std::chrono::minutes(5)));
  if (!status) return status.error();
  std::string out = process->out();
  std::string err = process->err();
  std::error_code ignored;
  std::filesystem::remove(output + ".out", ignored);
  std::filesystem::remove(output + ".err", ignored);
  if (!status->clean()) {
    return errorf("{} {}:\n{}{}", program, status->describe(), last_lines(out, 15),
                  last_lines(err, 15));
  }
  return out;
}

std::string last_lines(std::string_view text, size_t count) {
  size_t at = text.size();
  if (at > 0 && text[at - 1] == '\n') --at;
  for (; count > 0 && at > 0; --count) {
    at = text.rfind('\n', at - 1);
    if (at == std::string_view::npos) return std::string(text);
  }
  return std::string(text.substr(at == 0 ? 0 : at + 1));
}

}  // namespace vmhop::lab

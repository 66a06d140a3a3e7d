#include "tests/lab/guardian.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "tests/lab/clock.h"
#include "tests/lab/namespace.h"

namespace vmhop::lab {
namespace {

void kill_and_wait(pid_t pid) {
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid()) return;
  if (::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) != 0) return;
  // Readable once it is dead, also when nobody has reaped it yet.
  pollfd polled{process.get(), POLLIN, 0};
  ::poll(&polled, 1, 10'000);
}

// Again while there are any: a process may have started another one just before it was killed.
void kill_all_in(const std::vector<int>& namespace_fds, pid_t spared) {
  auto deadline = within(std::chrono::seconds(30));
  bool found = true;
  while (found && Clock::now() < deadline) {
    found = false;
    for (pid_t pid : processes_in(namespace_fds)) {
      if (pid == ::getpid() || pid == spared) continue;
      found = true;
      kill_and_wait(pid);
    }
  }
}

// Keeps none of the descriptors that it inherited but these.
void keep_only(std::vector<int>& fds) {
  int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  constexpr int kAbove = 200;
  for (int& fd : fds)
    fd = ::fcntl(fd, F_DUPFD, kAbove);
  for (int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    ::dup2(null, standard);
  ::syscall(SYS_close_range, 3U, static_cast<unsigned>(kAbove - 1), 0U);
  ::syscall(SYS_close_range, static_cast<unsigned>(kAbove) + fds.size(), ~0U, 0U);
}

[[noreturn]] void guard(int lifeline, std::vector<int> namespace_fds, const std::string& directory,
                        pid_t owner) {
  ::setsid();
  ::prctl(PR_SET_NAME, "lab-guardian");
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE})
    ::signal(number, SIG_IGN);
  namespace_fds.push_back(lifeline);
  keep_only(namespace_fds);
  lifeline = namespace_fds.back();
  namespace_fds.pop_back();

  char byte = 0;
  while (::read(lifeline, &byte, 1) < 0 && errno == EINTR) {
  }
  kill_all_in(namespace_fds, owner);
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
  ::_exit(0);
}

}  // namespace

Result<Guardian> Guardian::start(const std::vector<int>& namespace_fds,
                                 const std::string& directory) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno("pipe", errno);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  pid_t owner = ::getpid();
  pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno("fork", errno);
  if (pid == 0) guard(read_end.get(), namespace_fds, directory, owner);
  return Guardian(pid, std::move(write_end));
}

Guardian& Guardian::operator=(Guardian&& other) noexcept {
  finish();
  pid_ = std::exchange(other.pid_, 0);
  lifeline_ = std::move(other.lifeline_);
  return *this;
}

void Guardian::finish() {
  if (!lifeline_.valid()) return;
  lifeline_.reset();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace vmhop::lab

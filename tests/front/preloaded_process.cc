#include "tests/front/preloaded_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

namespace vmhop::test {
namespace {

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno("pipe", errno);
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// In the child, between fork and exec: nothing but system calls.
[[noreturn]] void become(const PreloadedCommand& command, int input, int output, int errors,
                         char* const* arguments, char* const* environment) {
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  for (int fd : command.inherited)
    ::fcntl(fd, F_SETFD, 0);
  if (command.user && ::setresuid(*command.user, *command.user, *command.user) != 0) ::_exit(126);
  ::execvpe(arguments[0], arguments, environment);
  ::_exit(127);
}

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& string : strings)
    pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

Result<PreloadedProcess> PreloadedProcess::start(const PreloadedCommand& command) {
  VMHOP_ASSIGN(Pipe input, make_pipe());
  VMHOP_ASSIGN(Pipe output, make_pipe());
  UniqueFd errors(::memfd_create("stderr", MFD_CLOEXEC));
  if (!errors.valid()) return Error::from_errno("memfd_create", errno);

  std::vector<std::string> arguments = command.arguments;
  std::vector<std::string> environment{"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                                       "LD_PRELOAD=" + command.preload};
  if (!command.front_variable.empty()) {
    environment.push_back("VMHOP_FRONT=" + command.front_variable);
  }
  std::vector<char*> argument_pointers = pointers_to(arguments);
  std::vector<char*> environment_pointers = pointers_to(environment);
  pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno("fork", errno);
  if (pid == 0) {
    become(command, input.read.get(), output.write.get(), errors.get(), argument_pointers.data(),
           environment_pointers.data());
  }
  return PreloadedProcess(pid, std::move(input.write), std::move(output.read), std::move(errors));
}

PreloadedProcess::~PreloadedProcess() {
  if (reaped_ || !errors_.valid()) return;  // ended, or moved from
  ::kill(pid_, SIGKILL);
  wait();
}

void PreloadedProcess::send(const std::string& line) {
  std::string terminated = line + "\n";
  // A process that is gone shows in what is received next.
  (void)write_all(input_.get(), std::as_bytes(std::span(terminated)));
}

std::string PreloadedProcess::receive() {
  constexpr int kTimeoutMs = 20'000;
  for (;;) {
    if (size_t end = received_.find('\n'); end != std::string::npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return line;
    }
    auto events = wait_fd(output_.get(), POLLIN, kTimeoutMs);
    if (!events || *events == 0) return "";
    std::array<char, 4096> chunk{};
    ssize_t got = ::read(output_.get(), chunk.data(), chunk.size());
    if (got <= 0) return "";
    received_.append(chunk.data(), static_cast<size_t>(got));
  }
}

std::string PreloadedProcess::ask(const std::string& line) {
  send(line);
  return receive();
}

int PreloadedProcess::wait() {
  input_.reset();
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string PreloadedProcess::errors() const {
  return read_file("/proc/self/fd/" + std::to_string(errors_.get()), 1 << 20).value();
}

}  // namespace vmhop::test

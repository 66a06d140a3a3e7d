// vmhop-lab-agent: starts programs for the lab inside one of its User Mode Linuxes (wire.h).
#include <fcntl.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "backend/session/tcp.h"
#include "tests/lab/agent/wire.h"
#include "tests/lab/process.h"

namespace vmhop::lab {
namespace {

constexpr int kRequestTimeoutMs = 30'000;

// The environment and directory of whoever asks become this process's: it has no other task.
Result<Process> start(const nlohmann::json& request) {
  ProcessSpec spec;
  try {
    spec.argv = request.at("argv").get<std::vector<std::string>>();
    spec.output = request.at("output").get<std::string>();
    spec.input = request.at("input").get<std::string>();
    auto directory = request.at("directory").get<std::string>();
    if (::chdir(directory.c_str()) != 0) return Error::from_errno("chdir " + directory, errno);
    for (const auto& entry : request.at("environment").get<std::vector<std::string>>()) {
      size_t equals = entry.find('=');
      if (equals == std::string::npos) continue;
      spec.environment.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
    }
  } catch (const nlohmann::json::exception& error) {
    return Error(error.what());
  }
  if (spec.argv.empty()) return Error("no command");
  // What is the lab's in the agent's own environment, and not this host's.
  for (const char* name : {"VMHOP_LAB", "VMHOP_RDMA_ADDRESS"}) {
    if (const char* value = std::getenv(name)) spec.environment.emplace_back(name, value);
  }
  return Process::start(spec);
}

// Passes signals on until the process has ended, or nobody asks for it any more.
Result<ExitStatus> follow(Process& process, AgentConnection& connection) {
  UniqueFd ended(static_cast<int>(::syscall(SYS_pidfd_open, process.pid(), 0)));
  for (;;) {
    std::array<pollfd, 2> polled{{{ended.get(), POLLIN, 0}, {connection.fd(), POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) {
      return Error::from_errno("poll", errno);
    }
    if (polled[0].revents != 0) return process.wait(Clock::now());
    if (polled[1].revents == 0) continue;
    VMHOP_ASSIGN(nlohmann::json message, connection.receive(kRequestTimeoutMs));
    process.signal(message.value("signal", SIGTERM));
  }
}

void serve(UniqueFd socket) {
  AgentConnection connection(std::move(socket));
  auto request = connection.receive(kRequestTimeoutMs);
  if (!request) return;
  auto process = start(*request);
  auto status = process ? follow(*process, connection) : Result<ExitStatus>(process.error());
  auto sent = status ? connection.send({{"code", status->code}, {"signal", status->signal}})
                     : connection.send({{"error", status.error().message()}});
  if (!sent) fmt::print(stderr, "vmhop-lab-agent: {}\n", sent.error().message());
}

// A process for each connection, as the directory and the environment are a process's.
Status run() {
  VMHOP_ASSIGN(UniqueFd listening, listen_tcp({"", kAgentPort}));
  ::signal(SIGCHLD, SIG_IGN);
  for (;;) {
    VMHOP_ASSIGN([[maybe_unused]] short ready, wait_fd(listening.get(), POLLIN, -1));
    UniqueFd socket(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) continue;
    VMHOP_TRY(tune_tcp(socket.get()));
    pid_t pid = ::fork();
    if (pid < 0) return Error::from_errno("fork", errno);
    if (pid == 0) {
      listening.reset();
      ::signal(SIGCHLD, SIG_DFL);
      serve(std::move(socket));
      ::_exit(0);
    }
  }
}

}  // namespace
}  // namespace vmhop::lab

int main() {
  auto ended = vmhop::lab::run();
  fmt::print(stderr, "vmhop-lab-agent: {}\n", ended.error().message());
  return 1;
}

// vmhop-lab-on: runs a program on one of the lab's User Mode Linuxes as if it were here: with this
// environment, directory and standard input (if that is a file), with its exit code or signal for
// its own, and passing signals on. It dies with the host, and the program dies with it.
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "backend/session/tcp.h"
#include "tests/lab/agent/wire.h"
#include "tests/lab/process.h"
#include "tests/lab/uml_host.h"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace vmhop::lab {
namespace {

constexpr int kConnectTimeoutMs = 10'000;
constexpr int kHostGone = 125;
constexpr size_t kMostInput = size_t{8} << 20;
constexpr size_t kMostOutput = size_t{1} << 30;

// What is no file (a terminal, a pipe) may never end, and is not waited for.
Result<std::string> standard_input() {
  struct stat info {};
  if (::fstat(STDIN_FILENO, &info) != 0 || !S_ISREG(info.st_mode)) return std::string();
  return read_file("/proc/self/fd/0", kMostInput);
}

Result<UniqueFd> take_signals() {
  sigset_t passed_on;
  ::sigemptyset(&passed_on);
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2})
    ::sigaddset(&passed_on, number);
  ::sigprocmask(SIG_BLOCK, &passed_on, nullptr);
  UniqueFd signals(::signalfd(-1, &passed_on, SFD_CLOEXEC));
  if (!signals.valid()) return Error::from_errno("signalfd", errno);
  return signals;
}

Result<ExitStatus> run(const std::string& name, const std::vector<std::string>& argv,
                       const std::string& output) {
  VMHOP_ASSIGN(UniqueFd signals, take_signals());
  VMHOP_ASSIGN(UmlHost host, UmlHost::find(name));
  VMHOP_ASSIGN(UniqueFd lifeline, host.lifeline());
  VMHOP_ASSIGN(UniqueFd socket, connect_tcp({host.address(), kAgentPort}, kConnectTimeoutMs));
  VMHOP_ASSIGN(std::string input, standard_input());
  AgentConnection agent(std::move(socket));
  nlohmann::json environment = nlohmann::json::array();
  for (char** entry = environ; *entry != nullptr; ++entry)
    environment.push_back(*entry);
  VMHOP_TRY(agent.send({{"argv", argv},
                        {"environment", environment},
                        {"directory", std::filesystem::current_path().string()},
                        {"output", output},
                        {"input", input}}));
  for (;;) {
    std::array<pollfd, 3> polled{
        {{agent.fd(), POLLIN, 0}, {lifeline.get(), POLLIN, 0}, {signals.get(), POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), -1) < 0) return Error::from_errno("poll", errno);
    if (polled[0].revents != 0) {
      VMHOP_ASSIGN(nlohmann::json ended, agent.receive(-1));
      if (ended.contains("error")) return Error(ended["error"].dump());
      return ExitStatus{ended.value("code", 0), ended.value("signal", 0)};
    }
    if (polled[1].revents != 0) return errorf("the host {} went down", name);
    signalfd_siginfo caught{};
    if (::read(signals.get(), &caught, sizeof caught) == sizeof caught) {
      VMHOP_TRY(agent.send({{"signal", caught.ssi_signo}}));
    }
  }
}

// For people, who have not said where the output shall go: it comes at the end.
void show_and_remove(const std::string& output) {
  for (auto [suffix, stream] : {std::pair(".out", stdout), std::pair(".err", stderr)}) {
    auto text = read_file(output + suffix, kMostOutput);
    if (text) fmt::print(stream, "{}", *text);
    ::unlink((output + suffix).c_str());
  }
}

[[noreturn]] void end_like(const ExitStatus& status) {
  std::fflush(nullptr);
  if (status.signal != 0) {
    ::signal(status.signal, SIG_DFL);
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_UNBLOCK, &all, nullptr);
    ::raise(status.signal);
  }
  ::_exit(status.shell_code());
}

int on_host_main(int argc, char** argv) {
  std::string host;
  std::string output;
  std::vector<std::string> command;
  CLI::App app{"Runs a program on a host of ci/rxe-lab --hosts 2", "vmhop-lab-on"};
  app.prefix_command();
  app.add_option("host", host, "source or destination")->required();
  app.add_option("--output", output, "Output goes to the files OUTPUT.out and OUTPUT.err");
  CLI11_PARSE(app, argc, argv);
  command = app.remaining();
  if (!command.empty() && command[0] == "--") command.erase(command.begin());
  if (command.empty()) {
    fmt::print(stderr, "vmhop-lab-on: no command\n");
    return kHostGone;
  }
  bool show = output.empty();
  if (show) output = fmt::format("/tmp/vmhop-lab-on-{}", ::getpid());
  auto status = run(host, command, output);
  if (show) show_and_remove(output);
  if (status) end_like(*status);
  fmt::print(stderr, "vmhop-lab-on: {}\n", status.error().message());
  return kHostGone;
}

}  // namespace
}  // namespace vmhop::lab

int main(int argc, char** argv) {
  return vmhop::lab::on_host_main(argc, argv);
}

#include "tests/lab/uml_host.h"

#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <thread>

#include "backend/session/tcp.h"
#include "tests/lab/agent/wire.h"
#include "tests/lab/process.h"

namespace vmhop::lab {
namespace {

constexpr std::chrono::milliseconds kRetryEvery{20};
constexpr int kConnectTimeoutMs = 1000;
// It is a process with memory to give back, on a machine that may be busy.
constexpr int kDieTimeoutMs = 30'000;

Result<std::string> first_line(const std::string& path) {
  VMHOP_ASSIGN(std::string text, read_file(path, 4096));
  text.erase(std::find(text.begin(), text.end(), '\n'), text.end());
  return text;
}

}  // namespace

Result<UmlHost> UmlHost::find(const std::string& name) {
  const char* lab = std::getenv("VMHOP_LAB_DIRECTORY");
  if (lab == nullptr)
    return refusedf("there are no hosts here: run this with ci/rxe-lab --hosts 2");
  std::string directory = fmt::format("{}/{}", lab, name);
  auto number = first_line(directory + "/number");
  if (!number) return number.error().with("the lab has no host " + name);
  return UmlHost(name, directory, *number);
}

// At the switch: UML's driver gives its NIC up for good when the tap device itself goes down.
Status UmlHost::set_cable(const std::vector<std::string>& at_switch) const {
  std::vector<std::string> command = {"ip", "link", "set", "rdma-" + number_};
  command.insert(command.end(), at_switch.begin(), at_switch.end());
  auto done = run_tool(directory_, std::move(command));
  return done ? ok_status() : Status(done.error().with("the cable of " + name_));
}

Result<UniqueFd> UmlHost::lifeline() const {
  VMHOP_ASSIGN(std::string line, first_line(directory_ + "/pid"));
  pid_t pid = 0;
  if (std::from_chars(line.data(), line.data() + line.size(), pid).ec != std::errc{}) {
    return errorf("{}/pid is no process id: '{}'", directory_, line);
  }
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (process.valid()) return process;
  if (errno == ESRCH) return Error(fmt::format("the host {} is down", name_), ErrorKind::kClosed);
  return Error::from_errno("pidfd_open", errno);
}

Status UmlHost::kill() const {
  VMHOP_ASSIGN(UniqueFd process, lifeline());
  if (::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) != 0) {
    return Error::from_errno("killing the host " + name_, errno);
  }
  VMHOP_ASSIGN(short gone, wait_fd(process.get(), POLLIN, kDieTimeoutMs));
  return gone != 0 ? ok_status() : Status(errorf("the host {} does not die", name_));
}

Status UmlHost::boot(Deadline deadline) const {
  std::string script = directory_ + "/boot";
  pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno("fork", errno);
  if (pid == 0) {
    ::execl(script.c_str(), script.c_str(), nullptr);
    ::_exit(127);
  }
  HostPort agent{address(), kAgentPort};
  for (;;) {
    auto socket = connect_tcp(agent, kConnectTimeoutMs);
    if (socket) return ok_status();
    if (Clock::now() >= deadline) return socket.error().with("booting the host " + name_);
    std::this_thread::sleep_for(kRetryEvery);
  }
}

std::vector<std::string> UmlHost::launcher(const std::string& output) const {
  return {"vmhop-lab-on", name_, "--output", output, "--"};
}

}  // namespace vmhop::lab

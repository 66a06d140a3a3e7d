// `vmhop internal-receive`: the other end of `vmhop relocate NAME ssh://HOST`. Started by ssh, it
// reads what to do from its standard input, tells by lines of JSON how it goes, and is two
// processes: one that ssh waits for, and the VM's supervisor, which stays when the VM has arrived.
#include <fcntl.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/receive_request.h"
#include "cli/receiver_lease.h"
#include "cli/session_end.h"
#include "cli/supervisor.h"

namespace vmhop {
namespace {

using nlohmann::json;

json failure(const Error& error) {
  return {{"event", "failed"},
          {"kind", kind_name(error.kind())},
          {"message", error.message()},
          {"version", VMHOP_VERSION}};
}

int exit_code_of(const Error& error) {
  return error.kind() == ErrorKind::kRefused ? kExitRefused : kExitFailed;
}

// A copy above the standard ones, which nothing that is started inherits.
Result<UniqueFd> keep_for_ourselves(int fd) {
  UniqueFd kept(::fcntl(fd, F_DUPFD_CLOEXEC, 4));
  if (!kept.valid()) return Error::from_errno("duplicating a file descriptor", errno);
  return kept;
}

Status take_null_for(std::initializer_list<int> fds) {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return Error::from_errno("opening /dev/null", errno);
  for (int fd : fds) {
    if (::dup2(null.get(), fd) < 0) return Error::from_errno("dup2", errno);
  }
  return ok_status();
}

// What the source asks for, and where this host's own configuration goes beyond that.
TransportPolicy agreed_transport(const TransportPolicy& asked, const TransportPolicy& ours) {
  TransportPolicy agreed = ours;
  if (asked.choice != TransportChoice::kAuto) agreed.choice = asked.choice;
  if (asked.bind != TransportPolicy().bind) agreed.bind = asked.bind;
  agreed.rdma_trusted = asked.rdma_trusted || ours.rdma_trusted;
  return agreed;
}

// The one that stays: in a session of its own, with ssh's pipes as nothing but its lease.
int supervise(const ReceivedRequest& asked, const TransportPolicy& ours, ReceiverLease lease) {
  const ReceiveRequest& request = asked.request;
  ::setsid();
  bool there = request.directory.empty() || ::chdir(request.directory.c_str()) == 0;
  if (!there && ::chdir("/") != 0) spdlog::warn("there is no root directory");
  ReceiveOptions options;
  options.name = request.vm;
  options.qemu = request.qemu;
  options.listen = fmt::format(":{}", request.port);
  options.transport = agreed_transport(request.transport, ours);
  options.once = true;
  Status usable = take_null_for({STDIN_FILENO, STDOUT_FILENO});
  if (usable) usable = check_outlives_session();
  Result<int> done =
      usable ? receive_leased(options, asked.key, lease) : Result<int>(usable.error());
  if (lease.settled()) return done ? *done : kExitSupervisor;
  // By now nothing of it is left here.
  json news = failure(done ? Error("") : done.error());
  news["log"] = lease.last_log_lines();
  lease.say(news);
  return done ? std::max<int>(*done, kExitFailed) : exit_code_of(done.error());
}

// The one that ssh waits for: until the VM runs here, or the other one has ended.
int stay_beside(pid_t supervisor, const UniqueFd& settled, const std::string& vm) {
  char byte = 0;
  ssize_t got = 0;
  do {
    got = ::read(settled.get(), &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 1) return kExitDone;
  int status = 0;
  while (::waitpid(supervisor, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  // Whose QEMU and pager live on, as those of any supervisor that is killed.
  Error killed = errorf(
      "the VM's supervisor was killed by signal {0}. `vmhop drop {1}` there ends what is left of "
      "it, if {1} runs at the source",
      WTERMSIG(status), vm);
  fmt::print("{}\n", failure(killed).dump());
  return kExitSupervisor;
}

Result<int> receive(const TransportPolicy& ours) {
  VMHOP_ASSIGN(ReceivedRequest asked, read_receive_request(STDIN_FILENO));
  ReceiverLease::Ends ends;
  VMHOP_ASSIGN(ends.lifeline, keep_for_ourselves(STDIN_FILENO));
  VMHOP_ASSIGN(ends.news, keep_for_ourselves(STDOUT_FILENO));
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return Error::from_errno("pipe", errno);
  UniqueFd settled(pipe[0]);
  ends.settled.reset(pipe[1]);
  // Before there is any thread, lock or socket.
  pid_t pid = ::fork();
  if (pid < 0) return Error::from_errno("fork", errno);
  if (pid > 0) {
    ends = {};
    return stay_beside(pid, settled, asked.request.vm);
  }
  settled.reset();
  return supervise(asked, ours, ReceiverLease(std::move(ends), asked.request.lease));
}

}  // namespace

Result<int> receive_by_ssh(const SshReceiveOptions& options) {
  // ssh that has gone is no reason to go without cleaning up.
  ::signal(SIGPIPE, SIG_IGN);
  auto done = receive(options.transport);
  if (done) return done;
  ReceiverLease::Ends ends;
  VMHOP_ASSIGN(ends.news, keep_for_ourselves(STDOUT_FILENO));
  ReceiverLease lease(std::move(ends), std::chrono::milliseconds(0));
  lease.say(failure(done.error()));
  return exit_code_of(done.error());
}

}  // namespace vmhop

#include "cli/helper_process.h"

#include <sys/socket.h>

namespace vmhop {

Result<StartedHelper> start_helper(const char* command) {
  VMHOP_ASSIGN(auto ends, socket_pair(SOCK_SEQPACKET));
  ChildSpec spec;
  spec.kind = ChildSpec::Kind::kDetached;
  spec.program = "/proc/self/exe";
  spec.argv = {"vmhop", command};
  spec.as_fd_3 = ends.second.get();
  VMHOP_ASSIGN(std::shared_ptr<ChildProcess> child, ChildProcess::spawn(spec));
  Helper helper{ControlChannel(std::move(ends.first)), child->identity(),
                [child](std::chrono::milliseconds timeout) { return child->wait(timeout).ok(); },
                [child] { child->kill_and_reap(); },
                [child] {
                  auto status = child->poll();
                  return status ? status->describe() : std::string("still runs");
                }};
  return StartedHelper{std::move(helper), std::move(child)};
}

}  // namespace vmhop

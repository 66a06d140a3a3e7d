#include <fmt/format.h>

#include "backend/base/control_channel.h"
#include "cli/commands.h"
#include "cli/consent.h"
#include "cli/exit_codes.h"
#include "cli/json_access.h"
#include "cli/logging.h"
#include "cli/vm_status.h"

namespace vmhop {
namespace {

using nlohmann::json;

// What has to end first: QEMU's monitor and the exporter are given that long, too.
constexpr int kAnswerTimeoutMs = 60'000;

// What the decision means here, or an error when there is nothing to decide.
Result<std::string> consequence(const json& status, const ResolveOptions& options) {
  const std::string& name = options.name;
  std::string state = text_of(status, "state");
  std::string peer = text_of(status, "peer", "the other host");
  if (!flag_of(status, "supervisor", true)) {
    return refusedf("the supervisor of {0} is gone: `vmhop recover {0}` first", name);
  }
  if (state == "in doubt" && options.run_here) {
    return fmt::format(
        "{0} arrived from {1}, which alone knows whether it gave it away. Running it here is right "
        "only if {1} does not run it and never will again: its host is off, or its operator has "
        "given it away. If {1} does run it, both write to its disks until they reach each other; "
        "then the one here is killed. Memory that {1} still holds comes only from there.",
        name, peer);
  }
  if (state == "in doubt") {
    return fmt::format(
        "{0} arrived from {1}, which alone knows whether it gave it away. Giving it back ends it "
        "here, where it has not run, and tells {1} so as soon as it can be reached: it runs there "
        "again.",
        name, peer);
  }
  if ((state == "leaving" || state == "unresolved") && options.run_here) {
    return fmt::format(
        "{0} was given to {1}. Running it here is right only if it does not run there and never "
        "will again: that host is off, or QEMU there is ended. If it does run there, both write to "
        "its disks until the hosts reach each other; then the one there is killed, with all that "
        "it has done since, unless all of its memory is there already.",
        name, peer);
  }
  if (state == "leaving" || state == "unresolved") {
    return fmt::format(
        "{0} was given to {1}, which has not said that it runs. Afterwards it can never run here "
        "again; its memory is still served to {1} until all of it is there.",
        name, peer);
  }
  return refusedf("nothing is in doubt: {} is {}", name, state);
}

}  // namespace

Result<int> resolve(const ResolveOptions& options) {
  VMHOP_ASSIGN(std::string base, runtime_base());
  VMHOP_TRY(check_vm_name(base, options.name));
  VmPaths paths(base, options.name);
  auto status = query_vm_status(paths, options.name);
  if (!status) return refusedf("there is no VM named {} on this host", options.name);
  VMHOP_ASSIGN(std::string meaning, consequence(*status, options));
  if (!options.yes) {
    VMHOP_ASSIGN(bool go_ahead, agreed(meaning));
    if (!go_ahead) {
      tell_user("Nothing was decided.");
      return kExitRefused;
    }
  }
  VMHOP_ASSIGN(ControlChannel channel, ControlChannel::connect(paths.control_socket()));
  VMHOP_TRY(
      channel.send({{"cmd", "resolve"}, {"action", options.run_here ? "run_here" : "give_back"}}));
  VMHOP_ASSIGN(ControlMessage answer, channel.receive(kAnswerTimeoutMs));
  if (text_of(answer.body, "event") != "resolved") {
    return refusedf("{}", text_of(answer.body, "message", "the answer was not understood"));
  }
  tell_user(fmt::format("{} {}.", options.name,
                        options.run_here ? "is this host's" : "is the other host's"));
  return kExitDone;
}

}  // namespace vmhop

#include <fmt/format.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include <chrono>
#include <thread>

#include "backend/base/control_channel.h"
#include "cli/commands.h"
#include "cli/consent.h"
#include "cli/exit_codes.h"
#include "cli/json_access.h"
#include "cli/logging.h"
#include "cli/vm_record.h"
#include "cli/vm_status.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr int kAnswerTimeoutMs = 30'000;
constexpr std::chrono::seconds kEndTimeout{5};

// What dropping means in this VM's case, or an error when there is nothing to drop.
Result<std::string> consequence(const json& status, const std::string& name) {
  std::string state = text_of(status, "state");
  std::string peer = text_of(status, "peer", "the other host");
  bool supervised = flag_of(status, "supervisor", true);
  if (state == "leaving" || state == "unresolved") {
    return fmt::format(
        "{0} was committed to {1}. Pages that {1} has not fetched yet exist only here: dropping "
        "them destroys the VM there, unless it is whole or gone already.",
        name, peer);
  }
  if (state == "in doubt" || (state == "arriving" && !supervised)) {
    return fmt::format(
        "{0} was being received from {1}. Dropping it ends it here. If {1} has committed it to "
        "this host, that is the VM's end, unless it had not run here yet.",
        name, peer);
  }
  if (state == "ended" || state == "given back") {
    return fmt::format(
        "{0} has ended here or never ran here, and {1} has not heard of it yet. Dropping leaves "
        "{1} "
        "with memory that only `vmhop drop {0}` there frees.",
        name, peer);
  }
  if (state == "orphaned") {
    return fmt::format(
        "QEMU of {0} still runs, or is frozen, without a supervisor. Dropping kills it: if {0} "
        "runs here, that is like pulling its plug.",
        name);
  }
  if (!supervised && (state == "waiting" || state == "receiving")) {
    return fmt::format("{} has not arrived; what waits for it here without a supervisor is ended.",
                       name);
  }
  if (state == "gone") return fmt::format("Nothing of {} is alive; its records are removed.", name);
  return refusedf("nothing to drop: {} is {}. To end a VM, end its `vmhop run` with SIGTERM", name,
                  state);
}

Status ask_to_drop(const std::string& socket_path) {
  VMHOP_ASSIGN(ControlChannel channel, ControlChannel::connect(socket_path));
  VMHOP_TRY(channel.send({{"cmd", "drop"}}));
  VMHOP_ASSIGN(ControlMessage answer, channel.receive(kAnswerTimeoutMs));
  if (text_of(answer.body, "event") == "dropped") return ok_status();
  return refusedf("{}", text_of(answer.body, "message", "the answer was not understood"));
}

Status end_process(const ProcessIdentity& identity) {
  VMHOP_TRY(signal_process(identity, SIGKILL));
  auto deadline = std::chrono::steady_clock::now() + kEndTimeout;
  while (is_alive(identity)) {
    if (std::chrono::steady_clock::now() > deadline) {
      return errorf("process {} does not end", identity.pid);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return ok_status();
}

// Without a supervisor: the exporter lets go by itself, whatever else is left is killed. QEMU goes
// last, so that nothing can run it meanwhile.
Status drop_leftovers(const VmPaths& paths) {
  Liveness life = look_for_life(paths);
  if (life.exporter) {
    auto dropped = ask_to_drop(paths.exporter_socket());
    if (!dropped && dropped.error().kind() != ErrorKind::kClosed) return dropped;
  }
  if (auto record = read_vm_record(paths.directory())) {
    auto deadline = std::chrono::steady_clock::now() + kEndTimeout;
    while (is_alive(record->exporter) && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    VMHOP_TRY(end_process(record->exporter));
    VMHOP_TRY(end_process(record->qemu));
    VMHOP_TRY(end_process(record->pager));
  }
  remove_vm_directory(paths);
  return ok_status();
}

}  // namespace

Result<int> drop(const DropOptions& options) {
  VMHOP_ASSIGN(std::string base, runtime_base());
  VMHOP_TRY(check_vm_name(base, options.name));
  VmPaths paths(base, options.name);
  auto status = query_vm_status(paths, options.name);
  if (!status) return refusedf("there is no VM named {} on this host", options.name);
  VMHOP_ASSIGN(std::string meaning, consequence(*status, options.name));
  if (!options.yes) {
    VMHOP_ASSIGN(bool go_ahead, agreed(meaning));
    if (!go_ahead) {
      tell_user("Nothing was dropped.");
      return kExitRefused;
    }
  }
  if (flag_of(*status, "supervisor", true)) {
    VMHOP_TRY(ask_to_drop(paths.control_socket()));
  } else {
    VMHOP_TRY(drop_leftovers(paths));
  }
  tell_user(options.name + " was dropped.");
  return kExitDone;
}

}  // namespace vmhop

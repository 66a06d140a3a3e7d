// A reception that goes on where a supervisor which died has left its VM.
#include <spdlog/spdlog.h>

#include <thread>

#include "cli/json_access.h"
#include "cli/reception.h"
#include "cli/source_checks.h"

namespace vmhop {

using nlohmann::json;

ReceptionOutcome Reception::go_on(FoundVm found) {
  machine_ = found.record.machine;
  qemu_version_ = found.record.qemu_version;
  regions_ = found.regions;
  page_map_ = std::move(found.page_map);
  setup_ = MigrationSetup::from_found(found.record.found_in_qemu);
  source_connected_ = true;
  // A drained one is committed, too: its supervisor died before it heard of the end.
  bool committed =
      found.state == DestinationState::kCommitted || found.state == DestinationState::kDrained;
  // Of a committed VM it is not known yet whether it runs, so it must not be given back: that is
  // what kResuming means.
  stage_ = committed ? Stage::kResuming : Stage::kLoaded;
  if (Status started = start_pager(); !started) {
    return {ReceptionEnd::kLeft, started.error().message(), {}};
  }
  host_.report({{"event", committed ? "arrived" : "in_doubt"},
                {"message", "its supervisor died, and another one goes on"}});
  // The pager first: QEMU answers only when its main thread has its pages.
  if (!wait_for_monitor(found.exit_fd)) {
    return {ReceptionEnd::kLeft, "QEMU has not answered yet; the VM is left as it was", {}};
  }
  if (vm_) learn_whether_it_runs(found);
  return serve();
}

// False when asked to end meanwhile. Without a monitor in the end QEMU is gone, or to be ended.
bool Reception::wait_for_monitor(int exit_fd) {
  while (!exit_ && !aborted_) {
    auto qmp = host_.connect_qmp(limits_.monitor);
    if (qmp) {
      vm_.emplace(WaitingVm{std::move(*qmp), machine_, regions_, exit_fd});
      return true;
    }
    qmp_lost_ = true;  // nobody to ask for last events
    if (auto status = host_.qemu_exit()) on_qemu_exit(*status);
    while (auto request = mailbox_.take()) {
      if (request->first == Request::kTerminate) return false;
      bool gives_back = request->first == Request::kDrop || request->first == Request::kGiveBack;
      if (gives_back && stage_ == Stage::kLoaded) give_back(request->second);
      if (request->first == Request::kRunHere && stage_ == Stage::kLoaded) run_here();
    }
    if (!pager_closed_) hear_pager_meanwhile();
    qmp_lost_ = exit_.has_value();
  }
  return true;
}

// A commit needs QEMU, and waits for it.
void Reception::hear_pager_meanwhile() {
  for (;;) {
    auto message = pager_->channel.receive(0);
    if (message) {
      if (text_of(message->body, "event") == "commit") {
        commit_waits_ = flag_of(message->body, "was_running", true);
      } else {
        on_pager(message->body, std::move(message->fds));
      }
      continue;
    }
    if (message.error().kind() == ErrorKind::kTimedOut) return;
    if (exit_ || aborted_ || drained_) {
      // It has done what it was for. (The rest is for who looks at its end.)
      pager_closed_ = pager_heard_out_ = true;
      return;
    }
    spdlog::error("{}: the pager ended unexpectedly; starting it again", host_.vm_name());
    pager_->kill_and_reap();
    std::this_thread::sleep_for(limits_.restart_pause);
    if (auto again = start_pager(); !again) {
      return spdlog::error("{}: {}", host_.vm_name(), again.error().message());
    }
  }
}

void Reception::learn_whether_it_runs(const FoundVm& found) {
  qmp_lost_ = false;
  auto state = query_run_state(vm_->qmp);
  if (!state) {
    qmp_lost_ = true;
    return;
  }
  bool runs = *state == "running";
  if (stage_ == Stage::kLoaded) {
    if (runs) {
      ran_too_early();
    } else if (commit_waits_) {
      on_commit(*commit_waits_);
    }
    return;
  }
  if (runs || found.record.arrived) {
    now_running(0);
    return;
  }
  // Committed, and never continued.
  stage_ = Stage::kLoaded;
  on_commit(found.was_running);
}

}  // namespace vmhop

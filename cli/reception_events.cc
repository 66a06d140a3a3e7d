// What a reception hears from the pager and from QEMU, and what it does about it.
#include <spdlog/spdlog.h>

#include "cli/exit_codes.h"
#include "cli/json_access.h"
#include "cli/reception.h"
#include "cli/source_checks.h"

namespace vmhop {

using nlohmann::json;

void Reception::on_pager(const json& message, std::vector<UniqueFd> fds) {
  std::string event = text_of(message, "event");
  if (event == "listening") {
    if (!fds.empty()) page_map_ = std::move(fds[0]);
    host_.report(message);
  } else if (event == "prepare") {
    prepare_for_device_state();
  } else if (event == "commit") {
    on_commit(flag_of(message, "was_running", true));
  } else if (event == "drained") {
    host_.report(message);
    drained_ = true;
  } else if (event == "aborted") {
    aborted_ = text_of(message, "message", "the source aborted");
  } else if (event == "released" || event == "lost") {
    pager_done_ = true;
  } else if (event == "connected") {
    source_connected_ = true;
    host_.report(message);
  } else if (event == "progress" || event == "in_doubt" || event == "link" ||
             event == "read_point") {
    stopped_there_ = stopped_there_ || event == "read_point";
    host_.report(message);
  } else if (event == "wrong_page") {
    on_wrong_page(message);
  } else if (event == "broken" || event == "failed" || event == "error") {
    spdlog::error("{}: the pager: {}", host_.vm_name(), text_of(message, "message"));
    host_.report({{"event", "notice"}, {"message", text_of(message, "message")}});
  } else {
    spdlog::warn("{}: the pager said '{}', which is unknown", host_.vm_name(), event);
  }
}

void Reception::prepare_for_device_state() {
  if (stage_ != Stage::kWaiting) return;
  Status done = setup_.apply(vm_->qmp, MigrationSide::kDestination);
  // Somebody may have continued a QEMU that is not ours: it would run as soon as it is loaded.
  if (done && !host_.owns_qemu()) {
    auto stopped = vm_->qmp.execute("stop");
    if (!stopped) done = stopped.error();
  }
  if (done) remember(false);
  if (done) {
    std::string uri = "unix:" + host_.runtime_directory() + "/incoming.sock";
    auto listening = vm_->qmp.execute("migrate-incoming", {{"uri", uri}});
    if (!listening) done = listening.error();
  }
  if (!done) {
    tell_pager({{"cmd", "refuse"}, {"message", done.error().message()}});
    return;
  }
  stage_ = Stage::kLoading;
  tell_pager({{"cmd", "prepared"}});
}

void Reception::on_commit(bool was_running) {
  // A pager that was started again repeats what it has no answer to.
  if (stage_ == Stage::kRunning) {
    tell_pager({{"cmd", "running"}});
    return;
  }
  if (stage_ == Stage::kGivenBack || stage_ == Stage::kEnded) {
    if (!last_words_.is_null()) tell_pager(last_words_);
    return;
  }
  if (stage_ != Stage::kLoaded) return;
  stage_ = Stage::kResuming;
  was_running_ = was_running;
  if (!was_running) {
    now_running(0);
    return;
  }
  // Not waited for: QEMU may need pages first, and the pager must go on meanwhile.
  auto sent = vm_->qmp.send("cont");
  if (sent) {
    cont_id_ = *sent;
  } else {
    qmp_lost_ = true;
  }
}

// A guest that may have seen wrong bytes goes no further: what it writes from now on may be wrong
// too. Not waited for, as `cont` is not.
void Reception::on_wrong_page(const json& message) {
  host_.report({{"event", "notice"}, {"message", text_of(message, "message")}});
  if (!flag_of(message, "installed", false) || stopped_for_wrong_page_ || qmp_lost_) return;
  stopped_for_wrong_page_ = true;
  if (auto sent = vm_->qmp.send("stop"); !sent) qmp_lost_ = true;
}

// For whoever finds the VM if this supervisor dies.
void Reception::remember(bool arrived) {
  SwitchRecord record;
  record.machine = machine_;
  record.qemu_version = qemu_version_;
  record.found_in_qemu = setup_.found();
  record.transport = host_.transport();
  record.arrived = arrived;
  if (auto written = write_switch_record(host_.runtime_directory(), record); !written) {
    spdlog::warn("{}: {}", host_.vm_name(), written.error().message());
  }
}

void Reception::read_qmp() {
  if (auto read = vm_->qmp.process_input(); !read) qmp_lost_ = true;
  while (auto event = vm_->qmp.take_event())
    on_qmp(*event);
  if (!cont_id_) return;
  if (auto answer = vm_->qmp.take_reply(*cont_id_)) {
    cont_id_.reset();
    on_cont_answer(*answer);
  }
}

void Reception::on_qmp(const QmpEvent& event) {
  if (event.name == "SHUTDOWN") {
    shutdown_reason_ = text_of(event.data, "reason", "shutdown");
  } else if (event.name == "RESUME" && stage_ == Stage::kResuming) {
    now_running(event.timestamp_ns);
  } else if (event.name == "RESUME" && (stage_ == Stage::kLoading || stage_ == Stage::kLoaded)) {
    ran_too_early();
  } else if (event.name == "MIGRATION" && stage_ == Stage::kLoading) {
    std::string status = text_of(event.data, "status");
    if (status == "completed" && !terminating_) {
      stage_ = Stage::kLoaded;
      tell_pager({{"cmd", "loaded"}});
    } else if (status == "failed") {
      tell_pager({{"cmd", "load_failed"}, {"message", "QEMU could not load the device state"}});
    }
  }
}

// Never two: who continued it did so before the source had given it away.
void Reception::ran_too_early() {
  std::string message =
      "somebody continued the VM at the destination before it was given away; it was killed there, "
      "but its disks may have been written by both";
  spdlog::error("{}: {}", host_.vm_name(), message);
  if (stage_ == Stage::kLoaded) return give_back(message);
  host_.end_qemu();
  exit_ = host_.qemu_exit().value_or(ExitStatus{0, 9});
  stage_ = Stage::kGivenBack;
  end_message_ = message;
  last_words_ = {{"cmd", "load_failed"}, {"message", message}};
  tell_pager(last_words_);
}

void Reception::on_cont_answer(const Result<json>& answer) {
  if (stage_ != Stage::kResuming) return;  // RESUME came first: it runs
  if (answer) {
    check_that_it_runs();
  } else {
    give_back("QEMU could not continue the VM: " + answer.error().message());
  }
}

// "cont" can succeed without effect, for example when a disk cannot be activated.
void Reception::check_that_it_runs() {
  auto state = query_run_state(vm_->qmp);
  while (auto event = vm_->qmp.take_event())
    on_qmp(*event);
  if (stage_ != Stage::kResuming) return;
  if (state && *state == "running") {
    now_running(0);
  } else if (state) {
    // No RESUME, and QEMU says so: it never ran.
    give_back(fmt::format("QEMU did not continue the VM, it is \"{}\"", *state));
  }
  // Otherwise QEMU hangs or is gone. Whether it ran is unknown, so it is not given back; its exit
  // or its RESUME event tells more.
}

void Reception::now_running(int64_t resumed_ns) {
  stage_ = Stage::kRunning;
  tell_pager({{"cmd", "running"}, {"resumed_ns", resumed_ns}});
  remember(true);
  host_.report({{"event", "arrived"}, {"was_running", was_running_}});
  if (!was_running_) return;
  if (auto announced = announce(vm_->qmp); !announced) {
    spdlog::warn("{}: {}", host_.vm_name(), announced.error().message());
  }
}

void Reception::on_qemu_exit(const ExitStatus& status) {
  if (!qmp_lost_) read_qmp();  // its last events
  exit_ = status;
  // Nobody but its parent knows the code of a QEMU that is not ours.
  if (status.unknown && shutdown_reason_.empty()) exit_->code = kExitFailed;
  std::string how = "QEMU " + status.describe();
  if (!source_connected_) {
    // Its user ended it; nobody else has to hear of it.
    stage_ = Stage::kEnded;
    end_message_ = how + " before any VM arrived";
    pager_->kill_and_reap();
    pager_closed_ = true;
    pager_done_ = true;
    return;
  }
  switch (stage_) {
    case Stage::kWaiting:
    case Stage::kLoading:
    case Stage::kLoaded: {
      // It has not run. The pager knows whether the source may still commit.
      bool loaded = stage_ == Stage::kLoaded;
      stage_ = Stage::kGivenBack;
      end_message_ = how + " before the VM arrived";
      last_words_ = {{"cmd", loaded ? "returned" : "load_failed"}, {"message", end_message_}};
      break;
    }
    case Stage::kResuming:
    case Stage::kRunning:
      stage_ = Stage::kEnded;
      if (exit_->clean()) {
        end_message_ =
            shutdown_reason_.empty() ? "the VM ended" : "the VM ended: " + shutdown_reason_;
        last_words_ = {{"cmd", "ended"}, {"reason", end_message_}};
      } else {
        end_message_ = how;
        last_words_ = {{"cmd", "lost"}, {"message", how}};
      }
      break;
    case Stage::kGivenBack:
    case Stage::kEnded:
      return;
  }
  // An end is the source's to hear; without an answer the pager stays and tells it later. What was
  // given back must be heard before a source can commit to nobody.
  if (stage_ == Stage::kEnded || terminating_) give_up_at_ = Clock::now() + limits_.settle;
  tell_pager(last_words_);
}

}  // namespace vmhop

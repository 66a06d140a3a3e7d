// The VM's own course at the destination: device state, commit, and its end.
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include "backend/base/realtime.h"
#include "backend/destination_relocation.h"

namespace vmhop {

void DestinationRelocation::prepared() {
  qemu_prepared_ = true;
  link_->send(Prepared{});
}

void DestinationRelocation::refuse(const std::string& reason) {
  load_failed(reason);
}

void DestinationRelocation::on_read_point(const ReadPoint& point) {
  if (state() != DestinationState::kPreparing) return;
  page_map_->set_run_state(point.before_stop);
  delivery_->allow_faults();
  start_progress();
  tell_({{"event", "read_point"}});
}

void DestinationRelocation::on_device_state(const DeviceState& state_bytes) {
  if (!qemu_prepared_) return link_->lose(Error("device state came before QEMU was ready for it"));
  if (!relay_) {
    auto qemu = connect_unix(options_.incoming_socket, SOCK_STREAM);
    if (!qemu) return load_failed(qemu.error().message());
    auto relay =
        StateRelay::start(loop_, std::move(*qemu), [this](std::span<const std::byte> bytes) {
          link_->send(ReturnPath{{bytes.begin(), bytes.end()}});
        });
    if (!relay) return load_failed(relay.error().message());
    relay_ = std::move(*relay);
  }
  relay_->write(state_bytes.bytes);
}

void DestinationRelocation::loaded() {
  if (state() != DestinationState::kPreparing) return;
  set_state(DestinationState::kLoaded);
  link_->send(Loaded{});
  if (!link_->up()) tell_({{"event", "in_doubt"}, {"message", "the link to the source is down"}});
}

void DestinationRelocation::commit_by_operator() {
  if (state() != DestinationState::kLoaded) return;
  spdlog::warn("{}: an operator decided that the VM is this host's", options_.vm);
  on_commit(Commit{page_map_->run_state()});
}

void DestinationRelocation::load_failed(const std::string& reason) {
  if (state() != DestinationState::kPreparing) return;
  link_->send(Abort{reason});
  link_->flush();
  stop_with({{"event", "aborted"}, {"message", reason}});
}

void DestinationRelocation::on_commit(const Commit& commit) {
  if (state() > DestinationState::kCommitted) return repeat_outcome();
  if (state() != DestinationState::kLoaded) return;  // heard before
  commit_arrived_realtime_ns_ = realtime_ns();
  page_map_->set_run_state(commit.before_stop);
  set_state(DestinationState::kCommitted);
  tell_({{"event", "commit"}, {"was_running", commit.before_stop == RunState::kRunning}});
}

void DestinationRelocation::running(uint64_t resumed_realtime_ns) {
  if (state() != DestinationState::kCommitted || running_since_) return;
  running_since_ = Clock::now();
  // By QEMU's own stamp of RESUME where there is one: the way from QEMU to here is not blackout.
  uint64_t resumed =
      resumed_realtime_ns > commit_arrived_realtime_ns_ ? resumed_realtime_ns : realtime_ns();
  running_after_commit_ns_ = resumed - commit_arrived_realtime_ns_;
  link_->send(Running{*running_after_commit_ns_});
  delivery_->allow_precaching();
  check_drained();
}

void DestinationRelocation::returned(const std::string& reason) {
  outcome_reason_ = reason;
  set_state(DestinationState::kReturned);
  delivery_->stop();
  link_->send(Returned{reason});
}

void DestinationRelocation::ended(const std::string& reason) {
  if (state() != DestinationState::kCommitted) return;
  outcome_reason_ = reason;
  set_state(DestinationState::kEnded);
  delivery_->stop();
  link_->send(Ended{reason});
}

void DestinationRelocation::lost(const std::string& reason) {
  // It was whole: nobody needs the source's memory, which is to hear so as ever.
  if (state() >= DestinationState::kDrained) return;
  // Not `ended`: the source keeps the memory until an operator says otherwise.
  spdlog::error("{}: QEMU crashed: {}", options_.vm, reason);
  delivery_->stop();
  stop_with({{"event", "lost"}, {"message", reason}});
}

void DestinationRelocation::unsupervised() {
  if (state() > DestinationState::kPreparing) return;
  const char* reason = "the destination's supervisor is gone";
  link_->send(Abort{reason});
  link_->flush();
  stop_with({{"event", "aborted"}, {"message", reason}});
}

// What a pager that died may not have told.
void DestinationRelocation::repeat_news() {
  if (state() == DestinationState::kAborted) {
    return stop_with({{"event", "aborted"}, {"message", "the source has the VM"}});
  }
  if (state() == DestinationState::kDrained) tell_drained();
  if (page_map_->source_released()) return stop_with({{"event", "released"}});
  if (state() == DestinationState::kDrained) return;
  if (state() == DestinationState::kLoaded) {
    // An operator may have to decide before a source comes, if one ever does.
    return tell_({{"event", "in_doubt"}, {"message", "the pager was started again"}});
  }
  if (state() != DestinationState::kCommitted) return;
  commit_arrived_realtime_ns_ = realtime_ns();
  tell_({{"event", "commit"}, {"was_running", page_map_->run_state() == RunState::kRunning}});
}

// After the commit it is an operator's word at the source: the VM runs there again, and the one
// that was continued here, without the memory that it still lacks, must not go on beside it.
void DestinationRelocation::on_abort(const std::string& reason) {
  if (state() == DestinationState::kDrained) {
    return spdlog::error(
        "{}: the source took the VM back after all of it was here: it may run on both hosts. End "
        "one of the two",
        options_.vm);
  }
  if (state() == DestinationState::kEnded) {
    spdlog::error("{}: the source took the VM back after it had ended here: {}", options_.vm,
                  reason);
    page_map_->set_source_released();
    stop_with({{"event", "released"}});
    return confirm_abort(reason);
  }
  if (state() == DestinationState::kCommitted) {
    spdlog::error("{}: the source took the VM back after its commit: {}", options_.vm, reason);
    delivery_->stop();
  }
  // Once this is confirmed the source forgets the VM. So it is stored first, for a supervisor that
  // is gone, or dies before it has obeyed: nobody would ever say it again.
  set_state(DestinationState::kAborted);
  stop_with({{"event", "aborted"}, {"message", reason}});
  confirm_abort(reason);
}

void DestinationRelocation::confirm_abort(const std::string& reason) {
  link_->send(Abort{reason});
  link_->flush();
}

void DestinationRelocation::on_released() {
  if (state() < DestinationState::kDrained) {
    return spdlog::error("{}: the source let its memory go before it was drained", options_.vm);
  }
  page_map_->set_source_released();
  stop_with({{"event", "released"}});
  // The source says it until it is answered: a pager that dies with it unread has a successor.
  link_->send(Released{});
  link_->flush();
}

}  // namespace vmhop

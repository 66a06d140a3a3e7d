// A relocation after its commit: the VM is the destination's, and its memory is still here.
#include <spdlog/spdlog.h>

#include <thread>

#include "cli/json_access.h"
#include "cli/relocation.h"
#include "cli/source_rollback.h"

namespace vmhop {
namespace {

constexpr const char* kOperatorsWord = "an operator decided that it runs here";

}  // namespace

using nlohmann::json;

RelocationOutcome Relocation::go_on(const SwitchRecord& record) {
  facts_ = {record.machine, record.qemu_version};
  setup_ = MigrationSetup::from_found(record.found_in_qemu);
  was_running_ = record.was_running;
  discards_blocked_ = migrate_started_ = true;  // by the one that died
  committed_ = exporter_closed_ = true;
  return follow();
}

RelocationOutcome Relocation::follow() {
  // QEMU is in postmigrate, which accepts "cont" from anybody. It stays, frozen, only until it is
  // certain that the VM need not be handed back.
  host_.freeze_qemu();
  qemu_frozen_ = true;
  host_.report({{"event", "phase"}, {"phase", "committed"}, {"stopped_ns", stopped_ns_}});
  for (;;) {
    if (auto outcome = react_after_commit()) return *outcome;
    auto deadline = leave_by_.value_or(Clock::now() + std::chrono::hours(1));
    if (auto pumped = pump(deadline); !pumped) {
      spdlog::error("{}: {}", host_.vm_name(), pumped.error().message());
      exporter_closed_ = true;
    }
  }
}

std::optional<RelocationOutcome> Relocation::react_after_commit() {
  if (returned_) return take_back();
  if (running_there_ || drained_ || ended_ || dropped_) {
    if (qemu_frozen_) host_.end_qemu();
    qemu_frozen_ = false;
  }
  if (drained_) {
    auto outcome = finish(RelocationEnd::kDrained, "");
    outcome.report = *drained_;
    return outcome;
  }
  if (ended_) return finish(RelocationEnd::kEndedThere, *ended_);
  if (dropped_) return finish(RelocationEnd::kDropped, "an operator gave the memory up");
  // Not for a supervisor that is about to leave: `vmhop recover` is for what it leaves.
  while (exporter_closed_ && !unresolved_ && !leave_by_) {
    if (auto outcome = replace_exporter()) return outcome;
  }
  // The destination is not told then: there is nobody to do it.
  if (exporter_closed_ && revoked_) {
    returned_ = kOperatorsWord;
    return take_back();
  }
  if (leave_by_ && (!qemu_frozen_ || exporter_closed_ || Clock::now() >= *leave_by_)) {
    return RelocationOutcome{
        RelocationEnd::kLeft,
        ErrorKind::kFailed,
        exporter_closed_ ? "the exporter is gone" : "the exporter goes on until the VM is drained",
        {}};
  }
  return std::nullopt;
}

RelocationOutcome Relocation::finish(RelocationEnd end, std::string message) {
  // Not killed if it takes longer: the destination may still have to hear that it is over.
  if (exporter_) exporter_->wait_exit(limits_.grace);
  return {end, ErrorKind::kFailed, std::move(message), {}};
}

RelocationOutcome Relocation::take_back() {
  std::string message = revoked_ ? *returned_ : "the destination handed the VM back: " + *returned_;
  // The record goes first: a crash in between leaves a paused VM, not one that runs although it
  // is recorded as gone.
  if (auto forgotten = host_.forget_commit(); !forgotten) {
    return {RelocationEnd::kStaysHere,
            ErrorKind::kFailed,
            message + "; and it stays paused: " + forgotten.error().message(),
            {}};
  }
  host_.thaw_qemu();
  qemu_frozen_ = false;
  return roll_back(Error(message));
}

// The memory is still held here, by this supervisor if by nobody else: another exporter serves it
// as well as the one that died.
std::optional<RelocationOutcome> Relocation::replace_exporter() {
  if (exporter_) {
    exporter_->kill_and_reap();
    bool young = Clock::now() - exporter_started_ < limits_.restart_pause;
    young_deaths_ = young ? young_deaths_ + 1 : 0;
    if (young_deaths_ > limits_.restarts) {
      leave_unresolved(fmt::format("{} exporters have ended at once", young_deaths_));
      return std::nullopt;
    }
    spdlog::error("{}: the exporter {} unexpectedly; starting it again", host_.vm_name(),
                  exporter_->describe_end());
    host_.report({{"event", "notice"}, {"message", "the exporter died and is started again"}});
    if (young) std::this_thread::sleep_for(limits_.restart_pause);
  }
  auto record = host_.commit_record();
  if (!record) {
    leave_unresolved(record.error().message());
    return std::nullopt;
  }
  if (!*record) {
    leave_unresolved("and its commit record, too");
    return std::nullopt;
  }
  // It may have died after its last deed and before it told of it.
  if ((*record)->outcome == CommitOutcome::kReturned) {
    returned_ = "it never ran there";
    return take_back();
  }
  if ((*record)->outcome == CommitOutcome::kReleased) {
    if (qemu_frozen_) host_.end_qemu();
    qemu_frozen_ = false;
    return RelocationOutcome{RelocationEnd::kDrained, ErrorKind::kFailed, "", json::object()};
  }
  exporter_closed_ = false;
  exporter_.reset();
  auto started = start_exporter(*record);
  // Its predecessor may have died with that unread, or untold.
  if (started && revoked_) started = exporter_->channel.send({{"cmd", "revoke"}});
  if (!started) {
    exporter_closed_ = true;
    // One that was gone before it could be told what to do is replaced like any other that dies.
    if (!exporter_) leave_unresolved(started.error().message());
  }
  return std::nullopt;
}

// An operator knows that the VM does not run at the destination, and never will.
void Relocation::run_here() {
  if (!committed_) return refuse_decision("nothing is in doubt: the VM has not been given away");
  if (!qemu_frozen_) return refuse_to_run_here();
  revoked_ = true;
  if (exporter_closed_) return;
  if (!exporter_->channel.send({{"cmd", "revoke"}})) exporter_closed_ = true;
}

void Relocation::refuse_decision(const std::string& why) {
  host_.report({{"event", "not_resolved"}, {"message", why}});
}

void Relocation::refuse_to_run_here() {
  refuse_decision(
      "the destination has said that the VM runs there, and its QEMU here is gone since: only the "
      "destination can run it");
}

// An operator knows that the destination has it: nothing here may run it any more.
void Relocation::keep_given_away() {
  if (!committed_) return refuse_decision("nothing is in doubt: the VM has not been given away");
  // That decision may be on disk already, and the destination told.
  if (revoked_) return refuse_decision("an operator has just decided that it runs here");
  if (qemu_frozen_) host_.end_qemu();
  qemu_frozen_ = false;
  host_.report({{"event", "resolved"},
                {"message", "the VM is the destination's; its memory is served until it has all"}});
}

// The commit stands, so the VM must not be resumed, and this supervisor and the frozen QEMU still
// hold its memory: only a person can know whether the destination still needs it.
void Relocation::leave_unresolved(const std::string& cause) {
  unresolved_ = true;
  std::string message = fmt::format(
      "the VM was committed to {0}:{1} but the exporter that serves its memory is gone ({3}); the "
      "memory is kept, and the VM does not run here. If the destination has all it needs, or has "
      "lost the VM, end this with `vmhop drop {2}`; if it never ran there, `vmhop resolve {2} "
      "--run-here` continues it here",
      request_.host, request_.port, host_.vm_name(), cause);
  spdlog::error("{}: {}", host_.vm_name(), message);
  host_.report({{"event", "unresolved"}, {"message", message}});
}

}  // namespace vmhop

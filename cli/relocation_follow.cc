// A relocation after its commit: the VM is the destination's, and its memory is still here.
#include <spdlog/spdlog.h>

#include "cli/json_access.h"
#include "cli/relocation.h"
#include "cli/source_rollback.h"

namespace vmhop {

using nlohmann::json;

RelocationOutcome Relocation::follow() {
  // QEMU is in postmigrate, which accepts "cont" from anybody. It stays, frozen, only until it is
  // certain that the VM need not be handed back.
  host_.freeze_qemu();
  qemu_frozen_ = true;
  host_.report({{"event", "phase"}, {"phase", "committed"}});
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
  if (exporter_closed_) note_exporter_gone();
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
  exporter_->wait_exit(limits_.grace);
  return {end, ErrorKind::kFailed, std::move(message), {}};
}

RelocationOutcome Relocation::take_back() {
  std::string message = "the destination handed the VM back: " + *returned_;
  exporter_->end_within(limits_.grace);
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

// The commit stands, so the VM must not be resumed, and this supervisor and the frozen QEMU still
// hold its memory: only a person can know whether the destination still needs it.
void Relocation::note_exporter_gone() {
  if (exporter_gone_noted_) return;
  exporter_gone_noted_ = true;
  std::string message = fmt::format(
      "the VM was committed to {}:{} but the exporter that serves its memory is gone; the memory "
      "is kept, and the VM does not run here. If the destination has all it needs, or has lost the "
      "VM, end this with `vmhop drop {}`",
      request_.host, request_.port, host_.vm_name());
  spdlog::error("{}: {}", host_.vm_name(), message);
  host_.report({{"event", "unresolved"}, {"message", message}});
}

}  // namespace vmhop

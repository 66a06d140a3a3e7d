// What becomes of the VM and of its supervisor when a relocation or a reception is over.
#include <spdlog/spdlog.h>

#include "backend/base/thread_role.h"
#include "cli/exit_codes.h"
#include "cli/json_access.h"
#include "cli/supervisor.h"

namespace vmhop {
namespace {

using nlohmann::json;

// Between two attempts to receive when the first failed at once.
constexpr std::chrono::seconds kAttemptPause{1};

const char* end_name(RelocationEnd end) {
  switch (end) {
    case RelocationEnd::kStaysHere:
      return "stays_here";
    case RelocationEnd::kVmGone:
      return "vm_gone";
    case RelocationEnd::kDrained:
      return "drained";
    case RelocationEnd::kEndedThere:
      return "ended";
    case RelocationEnd::kDropped:
      return "dropped";
    case RelocationEnd::kLeft:
      return "left";
  }
  return "unknown";
}

const char* end_name(ReceptionEnd end) {
  switch (end) {
    case ReceptionEnd::kAborted:
    case ReceptionEnd::kTerminated:
      return "did_not_arrive";
    case ReceptionEnd::kDrained:
      return "drained";
    case ReceptionEnd::kVmEnded:
      return "ended";
    case ReceptionEnd::kFailed:
      return "failed";
    case ReceptionEnd::kLeft:
      return "left";
  }
  return "unknown";
}

}  // namespace

Supervisor::Whose Supervisor::whose_after(RelocationEnd end) {
  switch (end) {
    case RelocationEnd::kStaysHere:
      return Whose::kThisHosts;
    case RelocationEnd::kDrained:
    case RelocationEnd::kDropped:
    case RelocationEnd::kLeft:
      return Whose::kTheOthers;
    case RelocationEnd::kVmGone:
    case RelocationEnd::kEndedThere:
      break;
  }
  return Whose::kNobodys;
}

Supervisor::Whose Supervisor::whose_after(ReceptionEnd end) {
  switch (end) {
    case ReceptionEnd::kDrained:
      return Whose::kThisHosts;
    case ReceptionEnd::kAborted:
    case ReceptionEnd::kTerminated:
      return Whose::kTheOthers;
    case ReceptionEnd::kVmEnded:
    case ReceptionEnd::kFailed:
    case ReceptionEnd::kLeft:
      break;
  }
  return Whose::kNobodys;
}

void Supervisor::answer_operators(Whose vm) {
  if (dropping_for_) {
    server_->send(*std::exchange(dropping_for_, std::nullopt), {{"event", "dropped"}});
  }
  if (!resolving_for_) return;
  json answer = {{"event", "resolved"}};
  if (vm != resolving_to_) {
    // It came about otherwise before the decision was read.
    const char* outcome = vm == Whose::kThisHosts   ? "is this host's"
                          : vm == Whose::kTheOthers ? "is the other host's"
                                                    : "has come to an end";
    answer = {{"event", "not_resolved"},
              {"message", fmt::format("too late: {} {}", name_, outcome)}};
  }
  server_->send(*std::exchange(resolving_for_, std::nullopt), answer);
}

void Supervisor::on_relocated(const RelocationOutcome& outcome) {
  join_worker();
  // An exporter that still has something to tell the destination does so without a name here.
  record_.exporter = {};
  write_record();
  std::string peer = std::exchange(record_.peer, "");
  relocating_to_.reset();
  held_ = false;
  json report = outcome.report;
  if (report.is_object()) report["front"] = front_name(vm_->front());
  json result = {{"event", "result"},
                 {"end", end_name(outcome.end)},
                 {"kind", kind_name(outcome.kind)},
                 {"message", outcome.message},
                 {"report", report}};
  course_.end(end_name(outcome.end), outcome.message, report);
  ClientId client = std::exchange(relocating_for_, 0);
  server_->send(client, result);
  answer_operators(whose_after(outcome.end));
  switch (outcome.end) {
    case RelocationEnd::kStaysHere: {
      spdlog::warn("{}: not relocated to {}: {}", name_, peer, outcome.message);
      forget_one_time_key();
      view_.forget_relocation();
      view_.set("peer", nullptr);
      // Of one that was recovered while its QEMU was frozen.
      if (!lifecycle_) {
        if (auto watched = watch_vm(); !watched) {
          spdlog::error("{}: {}", name_, watched.error().message());
          keeps_directory_ = true;
          return finish(kExitSupervisor);
        }
        keeps_directory_ = false;
      }
      json status;
      if (auto asked = lifecycle_->execute("query-status")) status = *asked;
      view_.set_state(flag_of(status, "running", true) ? "running" : "paused");
      write_record();
      if (qemu_exit_) return finish(qemu_exit_->shell_code());
      if (terminating_) quit_qemu();
      return;
    }
    case RelocationEnd::kVmGone:
      if (!qemu_exit_) qemu_exit_ = vm_->child().poll();
      return finish(qemu_exit_ ? qemu_exit_->shell_code() : kExitSupervisor);
    case RelocationEnd::kDrained:
      spdlog::info("{} runs at {}; nothing of it is left here", name_, peer);
      exporter_has_finished_ = true;
      return finish(kExitDone);
    case RelocationEnd::kEndedThere:
      spdlog::warn("{} ended at {} before it was drained: {}", name_, peer, outcome.message);
      exporter_has_finished_ = true;
      return finish(kExitDone);
    case RelocationEnd::kDropped:
      spdlog::warn("{}: its memory was given up before {} had all of it", name_, peer);
      exporter_has_finished_ = true;
      return finish(kExitDone);
    case RelocationEnd::kLeft:
      spdlog::info("{}: {}; follow it with `vmhop status {}`", name_, outcome.message, name_);
      keeps_directory_ = true;
      record_.peer = peer;
      return finish(kExitDone);
  }
}

// Receiving -----------------------------------------------------------------------------------

Status Supervisor::start_receiving(Credentials credentials, const CredentialsChoice& choice,
                                   UniqueFd listening, const std::string& address,
                                   const TransportPolicy& transport, bool once) {
  once_ = once;
  view_.set("listen", address);
  record_.listen = address;
  record_.credentials = absolute(choice);
  record_.transport = transport;
  prepare_receiving(std::move(credentials), std::move(listening), transport);
  spdlog::info("{}: receiving on {}", name_, address);
  if (!owns_qemu()) tell_how_to_start_qemu();
  start_reception();
  return ok_status();
}

void Supervisor::prepare_receiving(Credentials credentials, UniqueFd listening,
                                   const TransportPolicy& transport) {
  destination_ = std::make_unique<DestinationSide>(
      name_, claim_.paths(), command_, std::move(credentials), std::move(listening), transport,
      side_news(&VmRecord::pager),
      [this](const ProcessIdentity& qemu, std::vector<RegionRecord> regions) {
        loop_->post([this, qemu, regions = std::move(regions)] { note_vm(qemu, regions); });
      });
}

void Supervisor::tell_how_to_start_qemu() const {
  const VmPaths& paths = claim_.paths();
  spdlog::info(
      "{}: waiting for a QEMU with these among its arguments:\n"
      "  -object memory-backend-postcopy,id=ID,size=SIZE,pager={}\n"
      "  -machine memory-backend=ID -incoming defer -S\n"
      "  -qmp unix:{},server=on,wait=off\n"
      "  -qmp unix:{},server=on,wait=off",
      name_, paths.front_socket(), paths.lifecycle_qmp(), paths.relocation_qmp());
}

void Supervisor::start_reception() {
  if (terminating_) return finish(kExitDone);
  run_reception([](Reception& reception) { return reception.run(); });
}

void Supervisor::run_reception(std::function<ReceptionOutcome(Reception&)> course) {
  auto mailbox = Mailbox::create();
  if (!mailbox) {
    spdlog::error("{}: {}", name_, mailbox.error().message());
    return finish(kExitSupervisor);
  }
  mailbox_ = std::move(*mailbox);
  view_.forget_relocation();
  view_.set_state("waiting");
  attempt_started_ = VmView::Clock::now();
  working_ = true;
  worker_ = std::thread([this, course = std::move(course)] {
    begin_thread("vmhop-receive", ThreadRole::kSwitch);
    Reception reception(*destination_, *mailbox_);
    ReceptionOutcome outcome = course(reception);
    loop_->post([this, outcome] { on_received(outcome); });
  });
}

void Supervisor::on_received(const ReceptionOutcome& outcome) {
  join_worker();
  course_.end(end_name(outcome.end), outcome.message, json());
  answer_operators(whose_after(outcome.end));
  if (waiting_ && outcome.end != ReceptionEnd::kDrained) {
    refuse(std::exchange(waiting_, std::nullopt)->client,
           fmt::format("{} is no longer here: {}", name_, outcome.message));
  }
  switch (outcome.end) {
    case ReceptionEnd::kDrained:
      return on_vm_arrived();
    case ReceptionEnd::kAborted: {
      spdlog::warn("{} did not arrive: {}{}", name_, outcome.message,
                   once_ ? "" : ". Waiting for the next attempt");
      if (once_) return finish(kExitFailed);
      auto lasted = VmView::Clock::now() - attempt_started_;
      if (lasted > kAttemptPause) return start_reception();
      view_.set_state("waiting");
      loop_->after(kAttemptPause, [this] { start_reception(); });
      return;
    }
    case ReceptionEnd::kVmEnded:
      spdlog::info("{}: {}", name_, outcome.message);
      if (outcome.whole) {
        record_.pager = {};  // on its own
        write_record();
      }
      return finish(outcome.exit.shell_code());
    case ReceptionEnd::kTerminated:
      return finish(kExitDone);
    case ReceptionEnd::kFailed:
      spdlog::error("{}: {}", name_, outcome.message);
      return finish(kExitSupervisor);
    case ReceptionEnd::kLeft:
      spdlog::error("{}: {}", name_, outcome.message);
      keeps_directory_ = true;
      return finish(kExitFailed);
  }
}

// A pager that has not told the source yet is on its own.
void Supervisor::note_arrival() {
  record_.role = "run";
  record_.pager = {};
  forget_one_time_key();
  view_.set("role", "run");
  view_.set("listen", nullptr);
  view_.set("peer", nullptr);
}

// Whole: from here on it is what `vmhop run` has.
void Supervisor::on_vm_arrived() {
  adopt(destination_->vm());
  destination_.reset();
  note_arrival();
  view_.forget_relocation();
  spdlog::info("{} is here with all of its memory", name_);
  if (auto watched = watch_vm(); !watched) {
    if (auto exit = vm_->child().poll()) {
      spdlog::error("{}: QEMU {}", name_, exit->describe());
      write_record();  // without its pager
      return finish(exit->shell_code());
    }
    // It is the only copy there is: better without a supervisor than not at all.
    spdlog::error("{}: {}. The VM is left as it is, without vmhop", name_,
                  watched.error().message());
    keeps_directory_ = true;
    return finish(qemu_exit_ ? qemu_exit_->shell_code() : kExitSupervisor);
  }
  write_record();
  if (terminating_) return quit_qemu();
  if (waiting_) start_relocation(*std::exchange(waiting_, std::nullopt));
}

}  // namespace vmhop

#include "cli/relocation.h"

#include <spdlog/spdlog.h>

#include "backend/session/key_passing.h"
#include "cli/json_access.h"
#include "cli/source_rollback.h"

namespace vmhop {
namespace {

using nlohmann::json;

json regions_to_json(const std::vector<RegionRecord>& regions) {
  json list = json::array();
  for (const RegionRecord& region : regions) {
    list.push_back({{"id", region.id}, {"size", region.size}, {"page_size", region.page_size}});
  }
  return list;
}

json phase(const char* name) {
  return {{"event", "phase"}, {"phase", name}};
}

}  // namespace

std::chrono::milliseconds default_prepare_timeout(const std::vector<RegionRecord>& regions) {
  uint64_t bytes = 0;
  for (const RegionRecord& region : regions)
    bytes += region.size;
  return std::chrono::seconds(30 + (bytes >> 30));
}

RelocationOutcome Relocation::run() {
  Status done = prepare();
  if (done) done = hold();
  if (done) done = stop_vm();
  if (done) done = hand_over();
  if (!done && !committed_ && !settle_whether_committed(done.error())) {
    return roll_back(done.error());
  }
  return follow();
}

Status Relocation::prepare() {
  host_.report(phase("preparing"));
  VMHOP_ASSIGN(qmp_, host_.connect_qmp());
  VMHOP_ASSIGN(facts_, check_source(*qmp_, host_.regions()));
  if (host_.commit_recorded()) {
    // Of a relocation whose VM was handed back: it runs here, so the record is void.
    spdlog::warn("{}: removing the commit record of an earlier relocation", host_.vm_name());
    VMHOP_TRY(host_.forget_commit());
  }
  discards_blocked_ = true;
  VMHOP_TRY(host_.block_discards(*qmp_));
  discards_before_ = host_.discards();
  VMHOP_TRY(start_exporter(std::nullopt));
  auto deadline =
      Clock::now() + request_.prepare_timeout.value_or(default_prepare_timeout(host_.regions()));
  return wait_until([this] { return prepared_; }, deadline, "preparing the destination");
}

// The VM runs meanwhile. What it touches for the first time the destination will ask for by name.
Status Relocation::hold() {
  if (request_.hold) host_.report({{"event", "held"}});
  while (request_.hold) {
    VMHOP_TRY(trouble());
    VMHOP_TRY(pump(Clock::now() + std::chrono::hours(1)));
  }
  return ok_status();
}

// With a commit record: one that goes on where another has died.
Status Relocation::start_exporter(const std::optional<CommitRecord>& committed) {
  // Kept for the next one, should this one die after the commit. That one takes the certificates
  // that are there by then: what this one has may have expired.
  if (!credentials_) {
    VMHOP_ASSIGN(credentials_, take_credentials(std::move(request_.key)));
  } else if (credentials_->certificates()) {
    auto latest = load_credentials(request_.credentials, SessionRole::kSource);
    if (!latest) spdlog::warn("{}: {}", host_.vm_name(), latest.error().message());
    if (latest) credentials_ = *std::move(latest);
  }
  VMHOP_ASSIGN(exporter_, host_.start_exporter());
  exporter_started_ = Clock::now();
  json start = {{"cmd", "start"},
                {"vm", host_.vm_name()},
                {"machine", facts_.machine},
                {"qemu_version", facts_.qemu_version},
                {"host", request_.host},
                {"port", request_.port},
                {"runtime_dir", host_.runtime_directory()},
                {"plain_data", request_.plain_data},
                {"transport", request_.transport},
                {"fault_lanes", 1},
                {"bulk_lanes", 2},
                {"regions", regions_to_json(host_.regions())}};
  if (committed) {
    start["committed"] = {{"relocation", to_hex(committed->relocation)},
                          {"was_running", committed->before_stop == RunState::kRunning}};
  }
  VMHOP_ASSIGN(UniqueFd key, pass_credentials(*credentials_));
  std::vector<int> fds = host_.memory_fds();
  fds.insert(fds.begin(), key.get());
  Status sent = exporter_->channel.send(start, fds);
  return sent;
}

Status Relocation::stop_vm() {
  VMHOP_TRY(setup_.apply(*qmp_, MigrationSide::kSource));
  // Once more: the user may have plugged something in while the destination got ready.
  VMHOP_TRY(check_source(*qmp_, host_.regions()));
  // Asked last, so that a VM which its user pauses or continues meanwhile keeps that state.
  while (qmp_->take_event()) {
  }
  VMHOP_ASSIGN(std::string state, query_run_state(*qmp_));
  was_running_ = state == "running";
  VMHOP_TRY(trouble());
  // For whoever has to resume the VM if this supervisor dies meanwhile.
  SwitchRecord record;
  record.machine = facts_.machine;
  record.qemu_version = facts_.qemu_version;
  record.found_in_qemu = setup_.found();
  record.was_running = was_running_;
  record.plain_data = request_.plain_data;
  record.transport = request_.transport;
  record.credentials = request_.credentials;
  VMHOP_TRY(write_switch_record(host_.runtime_directory(), record));

  host_.report(phase("switching"));
  migrate_started_ = true;
  std::string uri = "unix:" + host_.runtime_directory() + "/migrate.sock";
  VMHOP_TRY(qmp_->execute("migrate", {{"uri", uri}}));
  return wait_until([this] { return migration_ == "pre-switchover"; },
                    Clock::now() + request_.switch_timeout, "stopping the VM");
}

Status Relocation::hand_over() {
  auto deadline = Clock::now() + request_.switch_timeout;
  // A registered page that was discarded is not the VM's any more, and would still be read.
  if (host_.discards() != discards_before_) {
    return Error("RAM was discarded after discards were blocked: this QEMU does not keep to it");
  }
  VMHOP_TRY(exporter_->channel.send(
      {{"cmd", "read_point"}, {"was_running", was_running_}, {"stopped_ns", stopped_ns_}}));
  VMHOP_TRY(
      qmp_->execute("migrate-continue", {{"state", "pre-switchover"}}, request_.switch_timeout));
  VMHOP_TRY(wait_until([this] { return migration_ == "completed"; }, deadline,
                       "handing device state over"));
  VMHOP_TRY(exporter_->channel.send({{"cmd", "source_completed"}}));
  return wait_until([this] { return committed_; }, deadline, "the commit");
}

bool Relocation::settle_whether_committed(const Error& cause) {
  if (!exporter_) return false;
  if (!exporter_failed_ && !exporter_aborted_ && !exporter_closed_) {
    // An answer that is already under way decides: the abort is void if it says "committed".
    if (!exporter_->channel.send({{"cmd", "abort"}, {"reason", cause.message()}})) {
      exporter_closed_ = true;
    }
    auto deadline = Clock::now() + limits_.settle;
    while (!committed_ && !exporter_failed_ && !exporter_aborted_ && !exporter_closed_ &&
           Clock::now() < deadline) {
      if (!pump(deadline)) break;
    }
  }
  if (committed_) return true;
  if (!exporter_failed_ && !exporter_aborted_) {
    // It did not say: once reaped it decides nothing any more, and a decision it made is on disk.
    // (One that did say so stays for a while, to tell a destination that waits for the decision.)
    exporter_->kill_and_reap();
    exporter_closed_ = true;
  }
  committed_ = host_.commit_recorded();
  if (committed_) spdlog::error("{}: the exporter is gone but has committed", host_.vm_name());
  return committed_;
}

RelocationOutcome Relocation::roll_back(Error cause) {
  // The cause may be nothing but "closed": what the exporter said before is the better message.
  if (exporter_failed_ && !abort_requested_) cause = *exporter_failed_;
  if (migrate_started_) {
    json event = phase("rolling_back");
    event["stopped_ns"] = stopped_ns_;
    host_.report(event);
  }
  Status resumed = resume_vm();
  if (discards_blocked_) host_.allow_discards(qmp_ && !qmp_lost_ ? &*qmp_ : nullptr);
  if (!resumed && host_.qemu_has_exited()) {
    return {RelocationEnd::kVmGone, cause.kind(), cause.message(), {}};
  }
  if (!resumed) {
    return {RelocationEnd::kStaysHere,
            cause.kind(),
            fmt::format("{}; and the VM does not run: {}. Look at its monitor", cause.message(),
                        resumed.error().message()),
            {}};
  }
  return {RelocationEnd::kStaysHere, cause.kind(), cause.message(), {}};
}

Status Relocation::resume_vm() {
  if (!qmp_) return ok_status();
  if (qmp_lost_) {
    if (host_.qemu_has_exited()) return Error("QEMU has exited", ErrorKind::kClosed);
    VMHOP_ASSIGN(qmp_, host_.connect_qmp());
    qmp_lost_ = false;
  }
  if (migrate_started_) {
    VMHOP_TRY(resume_at_source(*qmp_, was_running_ ? ResumeVm::kYes : ResumeVm::kLeavePaused,
                               limits_.roll_back));
  }
  if (auto restored = setup_.restore(*qmp_); !restored) {
    spdlog::warn("{}: {}", host_.vm_name(), restored.error().message());
  }
  remove_switch_record(host_.runtime_directory());
  return ok_status();
}

Status Relocation::wait_until(const std::function<bool()>& reached, Clock::time_point deadline,
                              const char* waiting_for) {
  auto started = Clock::now();
  for (;;) {
    if (reached()) return ok_status();
    VMHOP_TRY(trouble());
    if (Clock::now() >= deadline) {
      auto taken = std::chrono::duration<double>(Clock::now() - started).count();
      return Error(fmt::format("{} was not done after {:.1f} s", waiting_for, taken),
                   ErrorKind::kTimedOut);
    }
    VMHOP_TRY(pump(deadline));
  }
}

Status Relocation::trouble() const {
  if (abort_requested_) return *abort_requested_;
  if (exporter_failed_) return *exporter_failed_;
  if (exporter_aborted_) return Error("the destination aborted", ErrorKind::kAborted);
  if (exporter_closed_) return Error("the exporter ended unexpectedly", ErrorKind::kClosed);
  if (qmp_lost_) return Error("QEMU closed its monitor", ErrorKind::kClosed);
  if (migration_ == "failed" || migration_ == "cancelled" || migration_ == "cancelling") {
    return errorf("QEMU's migration of the device state {}",
                  migration_ == "failed" ? "failed" : "was cancelled");
  }
  return ok_status();
}

}  // namespace vmhop

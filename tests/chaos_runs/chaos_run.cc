#include "tests/chaos_runs/chaos_run.h"

#include <fmt/format.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include <array>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "cli/json_access.h"
#include "tests/chaos_runs/settlement.h"
#include "tests/chaos_runs/world.h"
#include "tests/lab/witness_log.h"

namespace vmhop::chaos {
namespace {

using namespace std::chrono_literals;
using lab::Clock;

// A moment that does not come because of an earlier fault.
constexpr std::chrono::seconds kMomentComes{8};
constexpr int kFlaps = 4;

// Whether a guest did the same pass twice, or the source spoke after the destination had. (A pass
// may be missing: of a QEMU that took another's place nobody may have listened yet.)
bool two_lives(const std::vector<lab::Line>& lines) {
  constexpr std::string_view kPass = "BM PASS ";
  bool destination_spoke = false;
  uint64_t last_pass = 0;
  for (const lab::Line& line : lines) {
    if (line.stream > 0) destination_spoke = true;
    if (line.stream == 0 && destination_spoke) return true;
    if (line.text.rfind(kPass, 0) != 0) continue;
    uint64_t pass = std::strtoull(line.text.c_str() + kPass.size(), nullptr, 10);
    if (pass <= last_pass) return true;
    last_pass = pass;
  }
  return false;
}

class ChaosRun {
 public:
  ChaosRun(const RunPlan& plan, bool rdma) : plan_(plan), rdma_(rdma) {}
  RunResult run();

 private:
  Status set_up();
  void disturb();
  void wait_for(Moment moment);
  bool saw_event(std::optional<QmpClient>& monitor, const std::string& name,
                 const std::string& status);
  void note_resume();
  void strike(const Fault& fault);
  void hit(Side side, const ProcessIdentity& process, const Fault& fault);
  void allow_death_by(const Fault& fault);
  RunResult judge(const Settlement& settlement);

  RunPlan plan_;
  bool rdma_;
  std::unique_ptr<World> world_;
  std::optional<QmpClient> source_monitor_;
  std::optional<QmpClient> destination_monitor_;
  std::optional<lab::Process> relocating_;
  bool committed_ = false;
  bool resumed_ = false;  // at the destination, as far as it was heard
  bool supervisor_killed_ = false;
  bool exporter_killed_ = false;
  std::string killed_at_destination_;  // the fault's name
  std::vector<std::string> may_die_of_;
};

RunResult ChaosRun::run() {
  if (Status ready = set_up(); !ready) {
    RunResult failed;
    failed.lost = true;
    failed.story = "the lab: " + ready.error().message();
    return failed;
  }
  disturb();
  Settlement settlement = settle(*world_, *relocating_, committed_);
  committed_ = committed_ || resumed_ || settlement.committed;
  return judge(settlement);
}

Status ChaosRun::set_up() {
  VMHOP_ASSIGN(world_, World::create(rdma_));
  VMHOP_TRY(world_->boot());
  VMHOP_TRY(world_->await());
  VMHOP_ASSIGN(source_monitor_, world_->monitor(Side::kSource));
  VMHOP_ASSIGN(destination_monitor_, world_->monitor(Side::kDestination));
  VMHOP_TRY(world_->set_rate(plan_.rate));
  VMHOP_ASSIGN(relocating_, world_->relocate(plan_));
  return ok_status();
}

void ChaosRun::disturb() {
  for (const Fault& fault : plan_.faults) {
    wait_for(fault.moment);
    std::this_thread::sleep_for(fault.delay);
    strike(fault);
  }
  (void)world_->set_rate("");
}

bool ChaosRun::saw_event(std::optional<QmpClient>& monitor, const std::string& name,
                         const std::string& status) {
  auto deadline = Clock::now() + kMomentComes;
  while (Clock::now() < deadline && relocating_->running()) {
    if (world_->destination_has_another_qemu()) {
      destination_monitor_.reset();
      if (auto another = world_->monitor(Side::kDestination))
        destination_monitor_ = std::move(*another);
    }
    if (!monitor) return false;
    auto event = monitor->next_event(100ms);
    if (!event) {
      if (event.error().kind() != ErrorKind::kTimedOut) monitor.reset();
      continue;
    }
    if (event->name == "RESUME" && &monitor == &destination_monitor_) resumed_ = true;
    if (event->name == name && (status.empty() || text_of(event->data, "status") == status)) {
      return true;
    }
  }
  return false;
}

void ChaosRun::wait_for(Moment moment) {
  switch (moment) {
    case Moment::kCommand:
      return;
    case Moment::kStop:
      saw_event(source_monitor_, "STOP", "");
      return;
    case Moment::kDeviceState:
      saw_event(source_monitor_, "MIGRATION", "device");
      return;
    case Moment::kResume:
    case Moment::kArriving:
      if (!resumed_) saw_event(destination_monitor_, "RESUME", "");
      return;
  }
}

// What QEMU had said before the fault, be it gone by now: then this hears all of it.
void ChaosRun::note_resume() {
  auto words_come = rdma_ ? 2000ms : 50ms;
  while (destination_monitor_) {
    auto event = destination_monitor_->next_event(words_come);
    if (!event) return;
    if (event->name == "RESUME") resumed_ = true;
  }
}

void ChaosRun::strike(const Fault& fault) {
  committed_ = committed_ || world_->commit_is_pending();
  auto record = world_->record(fault.side);
  switch (fault.kind) {
    case FaultKind::kKill:
    case FaultKind::kStop: {
      if (!record) return;
      ProcessIdentity helper = fault.side == Side::kSource ? record->exporter : record->pager;
      hit(fault.side,
          fault.victim == Victim::kSupervisor ? record->supervisor
          : fault.victim == Victim::kHelper   ? helper
                                              : record->qemu,
          fault);
      break;
    }
    case FaultKind::kHostDies:
      if (!record) return;
      for (const ProcessIdentity& process :
           {record->supervisor, record->exporter, record->pager, record->qemu})
        (void)world_->send(fault.side, process, SIGKILL);
      break;
    case FaultKind::kCut:
      (void)world_->set_cable(fault.side, false);
      std::this_thread::sleep_for(fault.length);
      (void)world_->set_cable(fault.side, true);
      break;
    case FaultKind::kFlap:
      for (int flap = 0; flap < kFlaps; ++flap) {
        (void)world_->set_cable(fault.side, false);
        std::this_thread::sleep_for(fault.length / (2 * kFlaps));
        (void)world_->set_cable(fault.side, true);
        std::this_thread::sleep_for(fault.length / (2 * kFlaps));
      }
      break;
  }
  note_resume();
  allow_death_by(fault);
}

void ChaosRun::hit(Side side, const ProcessIdentity& process, const Fault& fault) {
  if (fault.kind == FaultKind::kKill) {
    (void)world_->send(side, process, SIGKILL);
    return;
  }
  (void)world_->send(side, process, SIGSTOP);
  std::this_thread::sleep_for(fault.length);
  // Of a frozen QEMU only its supervisor may say that it goes on: SIGCONT to it would be this
  // program's doing, not a fault.
  bool frozen_by_vmhop =
      side == Side::kSource && fault.victim == Victim::kQemu && world_->commit_is_pending();
  if (!frozen_by_vmhop) (void)world_->send(side, process, SIGCONT);
}

// What no program could have saved the VM from.
void ChaosRun::allow_death_by(const Fault& fault) {
  bool at_source = fault.side == Side::kSource;
  if (fault.kind == FaultKind::kHostDies) {
    if (at_source || committed_ || resumed_) may_die_of_.push_back(fault.name());
    // On a kernel of its own its processes die one by one: it may have been continued in between.
    if (!at_source) killed_at_destination_ = fault.name();
    return;
  }
  if (fault.kind != FaultKind::kKill) return;
  if (fault.victim == Victim::kQemu) {
    if (!at_source) killed_at_destination_ = fault.name();
    if (at_source && !committed_) may_die_of_.push_back(fault.name());
    return;
  }
  if (!at_source) return;
  if (fault.victim == Victim::kSupervisor) supervisor_killed_ = true;
  if (fault.victim == Victim::kHelper) exporter_killed_ = true;
  // The last two that had its memory, once QEMU here is gone as well.
  if (supervisor_killed_ && exporter_killed_ && resumed_) {
    may_die_of_.emplace_back("kill source supervisor and exporter");
  }
}

RunResult ChaosRun::judge(const Settlement& settlement) {
  // Whether it had been continued by then is its supervisor's to say: QEMU's own last words may be
  // lost.
  bool ran_there = resumed_ || world_->ran_at_destination();
  if (ran_there && !killed_at_destination_.empty()) {
    may_die_of_.push_back(killed_at_destination_);
  }
  RunResult result;
  result.committed = committed_;
  std::vector<lab::Line> lines = world_->console().log().lines();
  if (settlement.runs_on) {
    const char* where = *settlement.runs_on == Side::kSource ? "source" : "destination";
    result.story = fmt::format("runs at the {}", where);
    size_t now = lines.size();
    for (int pass = 0; pass < 2 && !result.lost; ++pass) {
      auto passed =
          world_->console().wait_for_prefix("BM PASS", lab::within(world_->patience()), now);
      now = world_->console().log().size();
      if (passed) continue;
      result.lost = true;
      result.story = fmt::format("it is said to run at the {}, and does nothing", where);
    }
  } else if (!may_die_of_.empty()) {
    result.died = true;
    result.story = "it died of: " + may_die_of_.front();
  } else {
    result.lost = true;
    result.story = fmt::format("it is nowhere: {}\n{}", settlement.story, world_->last_words());
  }
  lines = world_->console().log().lines();
  auto report = lab::read_baremetal(lines);
  result.wrong_bytes = report.errors > 0 || !report.complaints.empty();
  result.doubled = two_lives(lines) || settlement.both_run;
  if (result.wrong_bytes || result.doubled) result.story += "; " + report.describe();
  return result;
}

}  // namespace

RunResult run_chaos(const RunPlan& plan, bool rdma) {
  return ChaosRun(plan, rdma).run();
}

}  // namespace vmhop::chaos

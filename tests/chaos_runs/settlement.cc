#include "tests/chaos_runs/settlement.h"

#include <fmt/format.h>

#include <thread>

#include "cli/json_access.h"

namespace vmhop::chaos {
namespace {

using namespace std::chrono_literals;
using lab::Clock;
using nlohmann::json;

constexpr unsigned kRecoveries = 3;

class Operator {
 public:
  Operator(World& world, lab::Process& relocating)
      : world_(world), relocating_(relocating), patience_(world.slow() ? 30s : 10s) {}

  Settlement work(bool committed);

 private:
  struct Seen {
    json status;
    std::string state;
    bool supervised = false;
    bool nothing() const { return status.is_null() || state == "gone"; }
  };
  Seen look(Side side) const;
  void recover(Side side, const Seen& seen);
  bool where_it_is(const Seen& source, const Seen& destination, Settlement& settlement);
  void decide(const Seen& source, const Seen& destination);
  bool both_run() const;

  World& world_;
  lab::Process& relocating_;
  Clock::duration patience_;  // before anything is decided in place of a host
  std::array<unsigned, 2> recoveries_{};
  std::string standstill_;  // both states, for as long as they do not change
  Clock::time_point since_ = Clock::now();
};

Operator::Seen Operator::look(Side side) const {
  Seen seen{world_.status(side), "", false};
  seen.state = text_of(seen.status, "state", "nothing");
  seen.supervised = flag_of(seen.status, "supervisor", false);
  return seen;
}

// A supervisor that is gone is missed by somebody.
void Operator::recover(Side side, const Seen& seen) {
  unsigned& tries = recoveries_[static_cast<size_t>(side)];
  if (seen.nothing() || seen.supervised || tries >= kRecoveries) return;
  ++tries;
  (void)world_.start(side, {"recover", kVm, "--key", world_.host(side).key()});
  std::this_thread::sleep_for(world_.slow() ? 3s : 500ms);
}

bool Operator::where_it_is(const Seen& source, const Seen& destination, Settlement& settlement) {
  bool leaving = source.state == "leaving" || source.state == "switching" ||
                 source.state == "preparing" || source.state == "unresolved";
  if (destination.supervised && destination.state == "running" && !leaving) {
    settlement.runs_on = Side::kDestination;
    settlement.committed = true;
    return true;
  }
  bool waits = destination.nothing() || destination.state == "waiting";
  if (source.supervised && source.state == "running" && waits && !relocating_.running()) {
    settlement.runs_on = Side::kSource;
    return true;
  }
  return source.nothing() && waits;
}

// Only where it cannot be wrong: the one host knows that it runs the VM, or that nothing of it is
// left on the other.
void Operator::decide(const Seen& source, const Seen& destination) {
  const lab::VmhopHost& here = world_.host(Side::kSource);
  const lab::VmhopHost& there = world_.host(Side::kDestination);
  bool arrived = destination.state == "in doubt" || destination.state == "given back" ||
                 destination.state == "receiving";
  if (source.state == "running" && destination.state == "in doubt") {
    (void)there.command({"resolve", kVm, "--give-back", "--yes"});
  } else if (source.state == "running" && arrived) {
    (void)there.command({"drop", kVm, "--yes"});
  } else if ((source.state == "leaving" || source.state == "unresolved") &&
             (destination.nothing() || destination.state == "waiting" ||
              destination.state == "ended")) {
    auto resolved = here.command({"resolve", kVm, "--run-here", "--yes"});
    bool runs = resolved && resolved->status.clean();
    if (!runs) (void)here.command({"drop", kVm, "--yes"});
  } else if (source.nothing() && !destination.nothing()) {
    // Its memory went with the source; or the state that it was in is the source's to decide.
    (void)there.command({"drop", kVm, "--yes"});
  } else if (destination.state == "orphaned" || destination.state == "ended") {
    (void)there.command({"drop", kVm, "--yes"});
  } else if (source.state == "orphaned" || source.state == "gone") {
    (void)here.command({"drop", kVm, "--yes"});
  }
}

bool Operator::both_run() const {
  unsigned running = 0;
  for (Side side : {Side::kSource, Side::kDestination}) {
    auto record = world_.record(side);
    if (!record || !world_.is_alive(side, record->qemu)) continue;
    // (The lab's own monitor may still be taken by who waited for events.)
    json status = world_.status(side);
    if (text_of(status, "state") == "running") ++running;
  }
  return running > 1;
}

Settlement Operator::work(bool committed) {
  Settlement settlement;
  settlement.committed = committed;
  auto deadline = Clock::now() + 2 * world_.patience();
  while (Clock::now() < deadline) {
    (void)world_.destination_has_another_qemu();
    Seen source = look(Side::kSource);
    Seen destination = look(Side::kDestination);
    settlement.story =
        fmt::format("the source is {}, the destination {}", source.state, destination.state);
    settlement.committed = settlement.committed || source.state == "leaving" ||
                           source.state == "unresolved" || destination.state == "arriving" ||
                           world_.commit_is_pending();
    if (where_it_is(source, destination, settlement)) break;
    recover(Side::kSource, source);
    recover(Side::kDestination, destination);
    std::string states = source.state + "/" + destination.state;
    if (states != standstill_) {
      standstill_ = states;
      since_ = Clock::now();
    } else if (Clock::now() - since_ > patience_) {
      // What it lacks is nowhere any more.
      if (source.nothing() && destination.state == "arriving") break;
      decide(source, destination);
      since_ = Clock::now();
    }
    std::this_thread::sleep_for(100ms);
  }
  settlement.both_run = both_run();
  return settlement;
}

}  // namespace

Settlement settle(World& world, lab::Process& relocating, bool committed) {
  return Operator(world, relocating).work(committed);
}

}  // namespace vmhop::chaos

#include "tests/chaos_runs/fault_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <random>

namespace vmhop::chaos {
namespace {

using std::chrono::milliseconds;

// The standard's distributions differ from library to library; a seed has to mean the same always.
class Dice {
 public:
  Dice(uint64_t seed, unsigned run) : engine_(seed * 1'000'003 + run) {}
  uint64_t below(uint64_t limit) { return engine_() % limit; }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <typename T, size_t N>
  const T& one_of(const std::array<T, N>& choices) {
    return choices[below(N)];
  }
  milliseconds between(milliseconds low, milliseconds high) {
    return low + milliseconds(below(static_cast<uint64_t>((high - low).count()) + 1));
  }

 private:
  std::mt19937_64 engine_;
};

const char* side_name(Side side) {
  return side == Side::kSource ? "source" : "destination";
}

const char* victim_name(Side side, Victim victim) {
  switch (victim) {
    case Victim::kSupervisor:
      return "supervisor";
    case Victim::kHelper:
      return side == Side::kSource ? "exporter" : "pager";
    case Victim::kQemu:
      return "QEMU";
  }
  return "";
}

const char* moment_name(Moment moment) {
  switch (moment) {
    case Moment::kCommand:
      return "the command";
    case Moment::kStop:
      return "STOP";
    case Moment::kDeviceState:
      return "device state";
    case Moment::kResume:
      return "RESUME";
    case Moment::kArriving:
      return "its arrival";
  }
  return "";
}

Fault roll_fault(Dice& dice, bool slow) {
  Fault fault;
  fault.side = dice.chance(50) ? Side::kSource : Side::kDestination;
  constexpr std::array kKinds = {FaultKind::kKill, FaultKind::kKill, FaultKind::kKill,
                                 FaultKind::kStop, FaultKind::kStop, FaultKind::kCut,
                                 FaultKind::kCut,  FaultKind::kFlap, FaultKind::kHostDies};
  fault.kind = dice.one_of(kKinds);
  constexpr std::array kVictims = {Victim::kSupervisor, Victim::kHelper, Victim::kHelper,
                                   Victim::kQemu};
  fault.victim = dice.one_of(kVictims);
  // Most of them while memory follows: what goes wrong before the commit mostly ends it.
  constexpr std::array kMoments = {Moment::kCommand,  Moment::kStop,     Moment::kDeviceState,
                                   Moment::kResume,   Moment::kResume,   Moment::kArriving,
                                   Moment::kArriving, Moment::kArriving, Moment::kArriving};
  fault.moment = dice.one_of(kMoments);
  bool early = fault.moment != Moment::kArriving;
  fault.delay = dice.between(milliseconds(0), milliseconds(early ? 20 : 1000) * (slow ? 5 : 1));
  fault.length = dice.between(milliseconds(50), milliseconds(2500));
  // Longer than a silent side is believed to be there.
  if (fault.kind == FaultKind::kCut && dice.chance(15)) fault.length = milliseconds(12'000);
  return fault;
}

}  // namespace

std::string Fault::name() const {
  switch (kind) {
    case FaultKind::kKill:
      return fmt::format("kill {} {}", side_name(side), victim_name(side, victim));
    case FaultKind::kStop:
      return fmt::format("stop {} {}", side_name(side), victim_name(side, victim));
    case FaultKind::kHostDies:
      return fmt::format("{} dies", side_name(side));
    case FaultKind::kCut:
      return fmt::format("cut {}", side_name(side));
    case FaultKind::kFlap:
      return fmt::format("flap {}", side_name(side));
  }
  return "";
}

std::string Fault::describe() const {
  std::string text = fmt::format("{} {} ms after {}", name(), delay.count(), moment_name(moment));
  bool lasts = kind == FaultKind::kStop || kind == FaultKind::kCut || kind == FaultKind::kFlap;
  if (lasts) text += fmt::format(" for {} ms", length.count());
  return text;
}

std::string RunPlan::describe() const {
  std::string text = rate.empty() ? "unlimited" : rate;
  if (plain_data) text += ", plain";
  for (const Fault& fault : faults)
    text += "; " + fault.describe();
  return text;
}

RunPlan plan_run(uint64_t seed, unsigned run, bool slow) {
  Dice dice(seed, run);
  RunPlan plan;
  const std::array<std::string, 4> rates = {"", "400mbit", "150mbit", "80mbit"};
  plan.rate = dice.one_of(rates);
  plan.plain_data = dice.chance(30);
  unsigned count = dice.chance(60) ? 1 : 2;
  for (unsigned i = 0; i < count; ++i)
    plan.faults.push_back(roll_fault(dice, slow));
  std::stable_sort(
      plan.faults.begin(), plan.faults.end(),
      [](const Fault& left, const Fault& right) { return left.moment < right.moment; });
  return plan;
}

}  // namespace vmhop::chaos

// What goes wrong in one run, and when: made from the seed alone, so that a run can be had again.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace vmhop::chaos {

enum class Side { kSource, kDestination };

enum class FaultKind {
  kKill,      // one process: SIGKILL
  kStop,      // one process: SIGSTOP, and SIGCONT after `length`
  kHostDies,  // every process of the VM on that side
  kCut,       // the cable of that side is out for `length`
  kFlap,      // ... several times in a row
};

enum class Victim { kSupervisor, kHelper, kQemu };  // the helper: exporter or pager

// What the fault waits for, before its delay.
enum class Moment { kCommand, kStop, kDeviceState, kResume, kArriving };

struct Fault {
  FaultKind kind = FaultKind::kKill;
  Side side = Side::kSource;
  Victim victim = Victim::kSupervisor;  // of kKill and kStop
  Moment moment = Moment::kCommand;
  std::chrono::milliseconds delay{0};
  std::chrono::milliseconds length{0};

  std::string name() const;      // "kill source exporter"
  std::string describe() const;  // ... and when
};

struct RunPlan {
  std::string rate;  // of the source's link; empty: no limit
  bool plain_data = false;
  std::vector<Fault> faults;  // by moment
  std::string describe() const;
};

// `slow`: for hosts on which everything takes many times as long.
RunPlan plan_run(uint64_t seed, unsigned run, bool slow);

}  // namespace vmhop::chaos

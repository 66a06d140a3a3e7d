// One run: a VM that is relocated while things go wrong, and what became of it.
#pragma once

#include <string>

#include "tests/chaos_runs/fault_plan.h"

namespace vmhop::chaos {

struct RunResult {
  bool committed = false;
  bool lost = false;         // nowhere, though it could have survived
  bool doubled = false;      // on both sides at once
  bool wrong_bytes = false;  // found by the guest itself
  bool died = false;         // nowhere, as nothing could have saved it
  std::string story;         // for people: how it ended, or what is wrong
  bool good() const { return !lost && !doubled && !wrong_bytes; }
};

// An empty story with lost set means that the lab itself failed.
RunResult run_chaos(const RunPlan& plan, bool rdma);

}  // namespace vmhop::chaos

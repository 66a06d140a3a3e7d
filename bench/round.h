// One relocation of one guest, from an empty lab to its figures.
#pragma once

#include <string>

#include "bench/figures.h"
#include "bench/host_memory.h"
#include "bench/movers.h"
#include "bench/workload.h"

namespace vmhop::bench {

struct RoundSpec {
  std::string mode;  // of all_modes() or encrypted_modes()
  std::string link;  // "unlimited" or a rate of tc's, "1gbit"
  WorkloadSpec workload;
  std::string vmhop;  // the program
  Until until = Until::kDrained;
};

// Followed to kResumed only, it has a blackout and no other figure. An error where this machine has
// too little memory for it.
Result<Figures> run_round(const RoundSpec& spec, HostMemory& memory);

}  // namespace vmhop::bench

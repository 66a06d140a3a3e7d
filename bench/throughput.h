// How fast precaching moves a guest's pages, beside iperf3 on the same link.
#pragma once

#include <string>
#include <vector>

#include "backend/base/result.h"
#include "bench/host_memory.h"

namespace vmhop::bench {

// Payload, in MB a second.
struct LinkRates {
  double vmhop;
  double iperf3;
};

// A relocation of a guest that is paused.
struct QuietMove {
  double mb_per_s;   // payload, from the first page to the last
  double drained_s;  // from RESUME
};
// `options` of `vmhop relocate`.
Result<QuietMove> measure_quiet_move(const std::string& link, const std::string& vmhop,
                                     HostMemory& memory, const std::vector<std::string>& options);

// One after the other in one lab. The guest is paused, so that its CPU does not compete, and none
// of its pages is asked for by a fault: all are precached. `vmhop` is the program.
Result<LinkRates> measure_throughput(const std::string& link, const std::string& vmhop,
                                     HostMemory& memory);

}  // namespace vmhop::bench

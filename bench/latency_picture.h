// How long faults took, as a distribution: its tail is what matters.
#pragma once

#include <string>
#include <vector>

#include "bench/plot.h"

namespace vmhop::bench {

struct Latencies {
  std::string what;
  std::vector<double> samples_us;
};

// For each latency the share of faults that took longer, both axes logarithmic.
Picture latency_picture(const std::vector<Latencies>& all);

}  // namespace vmhop::bench

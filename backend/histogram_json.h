// A latency histogram as local processes and scripts see it.
#pragma once

#include <nlohmann/json.hpp>

#include "backend/base/histogram.h"

namespace vmhop {

// {"sum_ns", "buckets": [[the largest value of the bucket in ns, how many], …]}, as
// Histogram::buckets().
inline nlohmann::json histogram_to_json(const Histogram& histogram) {
  auto buckets = nlohmann::json::array();
  for (const Histogram::Bucket& bucket : histogram.buckets())
    buckets.push_back({bucket.upper_ns, bucket.count});
  return {{"sum_ns", histogram.sum_ns()}, {"buckets", std::move(buckets)}};
}

}  // namespace vmhop

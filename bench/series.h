// Throughput over time, in small even steps.
#pragma once

#include <functional>
#include <vector>

#include "tests/lab/clock.h"

namespace vmhop::bench {

// A step for each value; step n begins at (first + n) * step_s, in seconds after some moment 0, so
// that 0 is where one step ends and another begins.
struct Series {
  double step_s = 0;
  long first = 0;
  std::vector<double> values;

  double middle_s(size_t n) const {
    return (static_cast<double>(first) + static_cast<double>(n) + 0.5) * step_s;
  }
};

// What a rate between two moments was in all whole steps of a span.
struct Span {
  lab::Clock::time_point zero;
  lab::Clock::time_point from;
  lab::Clock::time_point to;
};
using RateBetween = std::function<double(lab::Clock::time_point, lab::Clock::time_point)>;
Series in_steps(const RateBetween& rate, const Span& span, lab::Clock::duration step);

}  // namespace vmhop::bench

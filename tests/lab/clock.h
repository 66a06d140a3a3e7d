// The lab's time: CLOCK_MONOTONIC, as std::chrono::steady_clock has it on Linux.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace vmhop::lab {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;

inline Deadline within(Clock::duration span) {
  return Clock::now() + span;
}

// For poll(): 0 once the deadline has passed.
inline int milliseconds_until(Deadline deadline) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000));
}

inline double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

inline double milliseconds(Clock::duration span) {
  return std::chrono::duration<double, std::milli>(span).count();
}

}  // namespace vmhop::lab

// A moment until which something may take.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace vmhop {

class Deadline {
 public:
  // -1: for ever.
  explicit Deadline(int timeout_ms)
      : timeout_ms_(timeout_ms), end_(Clock::now() + std::chrono::milliseconds(timeout_ms)) {}

  // As poll() wants it: rounded up, 0 when the moment has come, -1 for ever.
  int left_ms() const {
    if (timeout_ms_ < 0) return -1;
    auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now()).count();
    return static_cast<int>(std::max<int64_t>(left, 0));
  }
  int timeout_ms() const { return timeout_ms_; }

 private:
  using Clock = std::chrono::steady_clock;
  int timeout_ms_;
  Clock::time_point end_;
};

}  // namespace vmhop

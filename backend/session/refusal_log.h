// What the log says of connections that are turned away. Strangers can make as many as they like,
// so it is bounded: some lines in a period, and how many more there were.
#pragma once

#include <spdlog/spdlog.h>

#include <chrono>
#include <string>

#include "backend/base/result.h"

namespace vmhop {

// One thread owns it.
class RefusalLog {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kLines = 32;
  static constexpr std::chrono::seconds kPeriod{10};

  void add(const std::string& peer, const Error& why, Clock::time_point now = Clock::now()) {
    if (now - begin_ >= kPeriod) {
      if (unsaid_ > 0) spdlog::warn("{} more connections were turned away", unsaid_);
      begin_ = now;
      said_ = unsaid_ = 0;
    }
    if (said_ >= kLines) {
      ++unsaid_;
      return;
    }
    ++said_;
    auto level = why.kind() == ErrorKind::kRefused ? spdlog::level::warn : spdlog::level::info;
    spdlog::log(level, "{} was turned away: {}", peer, why.message());
  }

 private:
  Clock::time_point begin_{};
  size_t said_ = 0;
  size_t unsaid_ = 0;
};

}  // namespace vmhop

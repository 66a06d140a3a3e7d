// Keeps background reads below a rate that an operator chose (`vmhop relocate --bandwidth`).
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace vmhop {

// Shared by all precaching threads; any may call anything. Reads for faults are never asked about
// here: a guest that waits costs more than a link that is full for a page.
//
// A leaky bucket, kept as the moment at which all that was posted will have passed at the rate
// (GCRA, ITU-T I.371): reads may be posted while that is no more than kBurst ahead.
class ReadPace {
 public:
  using Clock = std::chrono::steady_clock;
  // As much as this may be on its way at once beyond what the rate has let through. Posting comes
  // in steps of half a window, and a thread that sleeps wakes a millisecond late.
  static constexpr std::chrono::milliseconds kBurst{10};

  // Bytes a second; 0: no limit.
  void set_rate(uint64_t bytes_per_second) { rate_.store(bytes_per_second); }
  uint64_t rate() const { return rate_.load(std::memory_order_relaxed); }

  // How long to wait before the next read may be posted; 0 when it may be now.
  std::chrono::nanoseconds delay(Clock::time_point now) const {
    if (rate() == 0) return std::chrono::nanoseconds(0);
    auto ahead = std::chrono::nanoseconds(passed_at_.load(std::memory_order_relaxed)) -
                 now.time_since_epoch();
    return std::max<std::chrono::nanoseconds>(ahead - kBurst, std::chrono::nanoseconds(0));
  }
  void posted(uint64_t bytes, Clock::time_point now) {
    if (rate() == 0) return;
    int64_t floor = nanoseconds(now.time_since_epoch());
    int64_t seen = passed_at_.load(std::memory_order_relaxed);
    while (!passed_at_.compare_exchange_weak(seen, std::max(seen, floor) + duration_of(bytes),
                                             std::memory_order_relaxed)) {
    }
  }
  // Of what was posted, so many bytes turned out to be zeros, which do not travel.
  void took_nothing(uint64_t bytes) {
    if (rate() != 0) passed_at_.fetch_sub(duration_of(bytes), std::memory_order_relaxed);
  }

 private:
  static int64_t nanoseconds(Clock::duration duration) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
  }
  int64_t duration_of(uint64_t bytes) const {
    return static_cast<int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(rate()));
  }

  std::atomic<uint64_t> rate_{0};
  std::atomic<int64_t> passed_at_{0};  // ns of the clock
};

}  // namespace vmhop

// Latency histograms that any thread may record into and any other may read, without locks.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <vector>

namespace vmhop {

// Log-linear buckets: 16 for each power of two of nanoseconds, so a quantile is off by at most
// 1/16 (6 %). Recording is one relaxed increment; readers see a recent state, never a torn one.
class Histogram {
 public:
  void record(std::chrono::nanoseconds value) {
    uint64_t ns = value.count() < 0 ? 0 : static_cast<uint64_t>(value.count());
    buckets_[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed);
    sum_ns_.fetch_add(ns, std::memory_order_relaxed);
    uint64_t seen = max_ns_.load(std::memory_order_relaxed);
    while (ns > seen && !max_ns_.compare_exchange_weak(seen, ns, std::memory_order_relaxed)) {
    }
  }

  uint64_t count() const;
  uint64_t max_ns() const { return max_ns_.load(std::memory_order_relaxed); }
  uint64_t mean_ns() const;
  uint64_t sum_ns() const { return sum_ns_.load(std::memory_order_relaxed); }
  // The upper bound of the bucket that holds quantile `q` (0 < q <= 1), in ns; 0 when empty.
  uint64_t quantile_ns(double q) const;

  // What was recorded, in four buckets for each power of two of nanoseconds, so that a power of two
  // is never inside of one. In order; those that are empty are left out.
  struct Bucket {
    uint64_t upper_ns;  // the largest value that belongs there
    uint64_t count;
  };
  std::vector<Bucket> buckets() const;

 private:
  static constexpr unsigned kSubBits = 4;
  static constexpr unsigned kSub = 1U << kSubBits;
  static constexpr size_t kBuckets = (64 - kSubBits + 1) * kSub;

  static size_t bucket_of(uint64_t ns);
  static uint64_t upper_bound_of(size_t bucket);

  std::array<std::atomic<uint64_t>, kBuckets> buckets_{};
  std::atomic<uint64_t> sum_ns_{0};
  std::atomic<uint64_t> max_ns_{0};
};

}  // namespace vmhop

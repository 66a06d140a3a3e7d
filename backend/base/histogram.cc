#include "backend/base/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace vmhop {

size_t Histogram::bucket_of(uint64_t ns) {
  if (ns < kSub) return ns;
  unsigned exponent = static_cast<unsigned>(std::bit_width(ns)) - 1;
  unsigned shift = exponent - kSubBits;
  return (static_cast<size_t>(shift + 1) << kSubBits) + ((ns >> shift) & (kSub - 1));
}

uint64_t Histogram::upper_bound_of(size_t bucket) {
  if (bucket < kSub) return bucket;
  auto shift = static_cast<unsigned>((bucket >> kSubBits) - 1);
  uint64_t base = (kSub + (bucket & (kSub - 1))) << shift;
  return base + ((uint64_t{1} << shift) - 1);
}

uint64_t Histogram::count() const {
  uint64_t total = 0;
  for (const auto& bucket : buckets_)
    total += bucket.load(std::memory_order_relaxed);
  return total;
}

uint64_t Histogram::mean_ns() const {
  uint64_t total = count();
  return total == 0 ? 0 : sum_ns_.load(std::memory_order_relaxed) / total;
}

uint64_t Histogram::quantile_ns(double q) const {
  uint64_t total = count();
  if (total == 0) return 0;
  auto rank = static_cast<uint64_t>(std::ceil(q * static_cast<double>(total)));
  rank = std::clamp<uint64_t>(rank, 1, total);
  uint64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i].load(std::memory_order_relaxed);
    if (seen >= rank) return std::min(upper_bound_of(i), max_ns());
  }
  return max_ns();
}

std::vector<Histogram::Bucket> Histogram::buckets() const {
  constexpr size_t kTogether = kSub / 4;
  std::vector<Bucket> all;
  for (size_t first = 0; first < buckets_.size(); first += kTogether) {
    uint64_t count = 0;
    for (size_t i = first; i < first + kTogether; ++i)
      count += buckets_[i].load(std::memory_order_relaxed);
    if (count > 0) all.push_back({upper_bound_of(first + kTogether - 1), count});
  }
  return all;
}

}  // namespace vmhop

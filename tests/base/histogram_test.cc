#include "backend/base/histogram.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace vmhop {
namespace {

using std::chrono::nanoseconds;

TEST(Histogram, QuantilesAreWithinASixteenthOfTheTruth) {
  Histogram histogram;
  for (int i = 1; i <= 100'000; ++i)
    histogram.record(nanoseconds(i * 10));
  for (double q : {0.5, 0.9, 0.99, 0.999}) {
    double truth = q * 1'000'000;
    EXPECT_NEAR(static_cast<double>(histogram.quantile_ns(q)), truth, truth / 16) << q;
  }
  EXPECT_EQ(histogram.max_ns(), 1'000'000U);
}

TEST(Histogram, AnEmptyOneAnswersZero) {
  Histogram histogram;
  EXPECT_EQ(histogram.quantile_ns(0.5), 0U);
  EXPECT_EQ(histogram.mean_ns(), 0U);
}

TEST(Histogram, TakesTheWholeRangeOfValues) {
  Histogram histogram;
  histogram.record(nanoseconds(-5));
  histogram.record(nanoseconds(0));
  histogram.record(nanoseconds::max());
  EXPECT_EQ(histogram.count(), 3U);
  EXPECT_EQ(histogram.quantile_ns(1.0), static_cast<uint64_t>(nanoseconds::max().count()));
}

TEST(Histogram, ShowsItsBucketsInOrderAndWithoutTheEmptyOnes) {
  Histogram histogram;
  for (int value : {3, 1000, 1023, 1024, 1279, 1280})
    histogram.record(nanoseconds(value));
  std::vector<std::pair<uint64_t, uint64_t>> seen;
  for (const Histogram::Bucket& bucket : histogram.buckets())
    seen.emplace_back(bucket.upper_ns, bucket.count);
  std::vector<std::pair<uint64_t, uint64_t>> expected = {{3, 1}, {1023, 2}, {1279, 2}, {1535, 1}};
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(histogram.sum_ns(), 3U + 1000 + 1023 + 1024 + 1279 + 1280);
}

TEST(Histogram, HasNoBucketAcrossAPowerOfTwo) {
  Histogram histogram;
  for (int bits = 0; bits < 63; ++bits) {
    histogram.record(nanoseconds((int64_t{1} << bits) - 1));
    histogram.record(nanoseconds(int64_t{1} << bits));
  }
  for (int bits = 2; bits < 63; ++bits) {
    uint64_t below = 0;
    for (const Histogram::Bucket& bucket : histogram.buckets()) {
      if (bucket.upper_ns < uint64_t{1} << bits) below += bucket.count;
    }
    EXPECT_EQ(below, 2U * static_cast<unsigned>(bits) + 1) << bits;
  }
}

TEST(Histogram, LosesNothingUnderConcurrentRecording) {
  Histogram histogram;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10'000; ++i)
        histogram.record(nanoseconds(i));
    });
  }
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(histogram.count(), 40'000U);
}

}  // namespace
}  // namespace vmhop

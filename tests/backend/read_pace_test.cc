#include "backend/read_pace.h"

#include <gtest/gtest.h>

namespace vmhop {
namespace {

using namespace std::chrono_literals;
constexpr uint64_t kRate = 100'000'000;  // 1 MB is 10 ms
constexpr ReadPace::Clock::time_point kStart{1h};

TEST(ReadPace, LimitsNothingUnlessItIsTold) {
  ReadPace pace;
  pace.posted(uint64_t{1} << 40, kStart);
  EXPECT_EQ(pace.delay(kStart), 0ns);
}

TEST(ReadPace, LetsABurstThroughAndThenTheRate) {
  ReadPace pace;
  pace.set_rate(kRate);
  EXPECT_EQ(pace.delay(kStart), 0ns);
  pace.posted(1'000'000, kStart);
  EXPECT_EQ(pace.delay(kStart), 0ns);
  pace.posted(500'000, kStart);
  EXPECT_EQ(pace.delay(kStart), 5ms);
  EXPECT_EQ(pace.delay(kStart + 2ms), 3ms);
  EXPECT_EQ(pace.delay(kStart + 5ms), 0ns);
}

// However the readers take turns, what is let through in a second is a second's worth and a burst.
TEST(ReadPace, KeepsTheRateOverTime) {
  ReadPace pace;
  pace.set_rate(kRate);
  uint64_t bytes = 0;
  auto now = kStart;
  while (now < kStart + 1s) {
    if (pace.delay(now) == 0ns) {
      pace.posted(256 << 10, now);
      bytes += 256 << 10;
    } else {
      now += 100us;
    }
  }
  EXPECT_GE(bytes, kRate);
  EXPECT_LE(bytes, kRate + kRate / 100 + (256 << 10));
}

// Time in which nothing was wanted is not made up for.
TEST(ReadPace, SavesNothingUp) {
  ReadPace pace;
  pace.set_rate(kRate);
  pace.posted(1'000'000, kStart);
  auto later = kStart + 10s;
  pace.posted(1'500'000, later);
  EXPECT_EQ(pace.delay(later), 5ms);
}

TEST(ReadPace, ChargesNothingForZeros) {
  ReadPace pace;
  pace.set_rate(kRate);
  pace.posted(3'000'000, kStart);
  EXPECT_EQ(pace.delay(kStart), 20ms);
  pace.took_nothing(2'000'000);
  EXPECT_EQ(pace.delay(kStart), 0ns);
}

}  // namespace
}  // namespace vmhop

#include "backend/read_window.h"

#include <gtest/gtest.h>

#include <deque>

namespace vmhop {
namespace {

using namespace std::chrono_literals;
using Clock = ReadWindow::Clock;

// A link in virtual time: what is asked for leaves the source one after the other.
class Link {
 public:
  Link(double bytes_per_second, Clock::duration round_trip)
      : rate_(bytes_per_second), round_trip_(round_trip) {}

  void set_rate(double bytes_per_second) { rate_ = bytes_per_second; }

  // Keeps the window full for so long; returns the bytes carried.
  uint64_t carry(ReadWindow& window, Clock::duration time, bool zeros = false) {
    auto until = now_ + time;
    uint64_t carried = 0;
    while (now_ < until) {
      while (in_flight_ < window.bytes())
        post(window, zeros);
      Read read = reads_.front();
      reads_.pop_front();
      now_ = std::max(now_, read.there);
      in_flight_ -= read.length;
      carried += read.length;
      last_latency_ = now_ - read.posted.at;
      window.arrived(read.posted, read.length, read.zeros ? 0 : read.length, now_);
    }
    return carried;
  }
  Clock::duration last_latency() const { return last_latency_; }

 private:
  struct Read {
    ReadWindow::Posted posted;
    uint64_t length;
    bool zeros;
    Clock::time_point there;
  };

  void post(ReadWindow& window, bool zeros) {
    uint64_t length = window.read_length();
    auto on_wire = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(zeros ? 0 : static_cast<double>(length) / rate_));
    link_free_ = std::max(link_free_, now_ + round_trip_) + on_wire;
    reads_.push_back({window.posted(now_), length, zeros, link_free_});
    in_flight_ += length;
  }

  double rate_;
  Clock::duration round_trip_;
  Clock::time_point now_{1h};
  Clock::time_point link_free_{};
  Clock::duration last_latency_{};
  std::deque<Read> reads_;
  uint64_t in_flight_ = 0;
};

constexpr double kGigabit = 118e6;  // bytes a second, less headers

TEST(ReadWindow, FillsTheLinkNearAndFar) {
  for (auto round_trip : {Clock::duration(100us), Clock::duration(1ms), Clock::duration(20ms)}) {
    ReadWindow window;
    Link link(kGigabit, round_trip);
    link.carry(window, 3s);
    EXPECT_GE(link.carry(window, 1s), 0.98 * kGigabit) << round_trip.count();
  }
}

TEST(ReadWindow, KeepsNextToNothingInFrontOfTheFirstFaults) {
  ReadWindow window;
  Link link(kGigabit, 200us);
  link.carry(window, 50ms);
  EXPECT_LT(link.last_latency(), 2 * ReadWindow::kFirstStanding);
  link.carry(window, 3s);
  EXPECT_GT(link.last_latency(), ReadWindow::kStanding);
}

TEST(ReadWindow, KeepsFewMillisecondsInFrontOfAFault) {
  for (double rate : {kGigabit, 10 * kGigabit}) {
    ReadWindow window;
    Link link(rate, 200us);
    link.carry(window, 3s);
    EXPECT_LT(link.last_latency(), 2 * ReadWindow::kStanding) << rate;
  }
}

TEST(ReadWindow, AsksForShortPiecesOfASlowLink) {
  ReadWindow window;
  Link link(kGigabit / 100, 200us);
  link.carry(window, 1s);
  EXPECT_EQ(window.bytes(), ReadWindow::kLeast);
  EXPECT_EQ(window.read_length(), ReadWindow::kShortestRead);
}

TEST(ReadWindow, AsksForLongPiecesOfAFastOne) {
  ReadWindow window;
  Link link(20 * kGigabit, 100us);
  link.carry(window, 1s);
  EXPECT_EQ(window.read_length(), ReadWindow::kLongestRead);
}

TEST(ReadWindow, BecomesSmallerOnALinkThatBecameSlower) {
  ReadWindow window;
  Link link(10 * kGigabit, 200us);
  link.carry(window, 1s);
  uint64_t before = window.bytes();
  link.set_rate(kGigabit);
  link.carry(window, 11s);
  EXPECT_LT(window.bytes(), before / 4);
}

TEST(ReadWindow, AsksForMoreWherePagesAreZeros) {
  ReadWindow window;
  Link link(kGigabit, 200us);
  EXPECT_GT(link.carry(window, 1s, true), 5 * kGigabit) << "also when it has seen nothing else";
}

TEST(ReadWindow, TakesPagesOfZerosForNoMeasureOfTheLink) {
  ReadWindow window;
  Link link(kGigabit, 200us);
  link.carry(window, 3s);
  uint64_t before = window.bytes();
  link.carry(window, 1s, true);
  EXPECT_LE(window.bytes(), 8 * before);
  link.carry(window, 100ms);
  EXPECT_LE(window.bytes(), before);
}

}  // namespace
}  // namespace vmhop

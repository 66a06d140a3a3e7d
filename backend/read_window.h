// How much one page source should have in flight in the background.
#pragma once

#include <chrono>
#include <cstdint>

namespace vmhop {

// Enough to keep the link full, and little enough that a fault, which shares the link with whatever
// was asked for before it, waits a few milliseconds at most: a fixed mebibyte is a millisecond of a
// 10 Gbit/s link, and 80 ms of one of 100 Mbit/s.
//
// As BBR does (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5), 2016),
// it measures what the link carries, at most, and how long an answer takes, at least, and keeps
// their product in flight, and what kStanding carries besides for the hiccups of either host.
// Unlike BBR it is about requests, so TCP's own control stays as it is.
//
// Not thread-safe: one per page source and thread.
class ReadWindow {
 public:
  using Clock = std::chrono::steady_clock;

  // What is kept waiting at the source on purpose, in the link's time: at first, and after kGrown,
  // about as long as a thread that works in the background may wait for a CPU.
  static constexpr std::chrono::microseconds kFirstStanding{500};
  static constexpr std::chrono::microseconds kStanding{3000};
  static constexpr std::chrono::seconds kGrown{2};
  static constexpr uint64_t kLeast = 32 << 10;  // also before anything is known
  static constexpr uint64_t kMost = 4 << 20;
  // One read: long enough that its overhead does not show, short enough that a fault on one of its
  // pages need not wait long.
  static constexpr uint64_t kLongestRead = 256 << 10;
  static constexpr uint64_t kShortestRead = 16 << 10;

  // Bytes that may be in flight, and how long the next read should be (a power of two).
  uint64_t bytes() const { return bytes_; }
  uint64_t read_length() const;

  // A read as it was posted; goes back to arrived().
  struct Posted {
    Clock::time_point at;
    uint64_t delivered;  // by this page source until then, bytes
  };
  Posted posted(Clock::time_point now) const { return {now, delivered_}; }
  // All of it has arrived, `data` bytes of it over the link: zeros are only told of, so where there
  // are many of them more is asked for at once.
  void arrived(const Posted& read, uint64_t length, uint64_t data, Clock::time_point now);

 private:
  double standing(Clock::time_point now) const;  // seconds

  // The highest rate is remembered for one to two of these: a link that others use for a while
  // keeps its window, and one that has become slower gets a smaller one.
  static constexpr std::chrono::seconds kMemory{5};
  // What counts of one read for data_share_, and how many times the usual is asked for at most:
  // when zeros end, that much of data is in flight once.
  static constexpr double kShareWeight = 1.0 / 8;
  static constexpr double kLeastShare = 1.0 / 8;

  uint64_t bytes_ = kLeast;
  uint64_t delivered_ = 0;
  double rate_now_ = 0;  // bytes a second
  double rate_before_ = 0;
  Clock::time_point remembered_since_{};
  double data_share_ = 1;  // of what was asked for lately
  Clock::time_point first_{};
  double shortest_ = 0;  // seconds from asking to the whole answer; 0: none yet
};

}  // namespace vmhop

// Waiting for something that often comes within microseconds: poll briefly, then sleep.
#pragma once

#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <chrono>

namespace vmhop {

// How long to spin before sleeping. Waking a sleeping thread across virtual CPUs costs about 70 µs
// (measured: a fault takes 102 µs at the median when the handler sleeps, 30 µs when it spins), so
// spinning pays when the last waits were short, and only costs a CPU when they were long. One
// thread owns it.
class AdaptiveSpin {
 public:
  using Clock = std::chrono::steady_clock;

  // On one CPU the thread that would end the wait could not run meanwhile.
  AdaptiveSpin() : enabled_(::sysconf(_SC_NPROCESSORS_ONLN) > 1) {}

  // Calls `ready` until it returns true or the budget is used up; returns what it last said.
  template <typename Ready>
  bool spin(Ready&& ready) {
    if (ready()) return true;
    if (!enabled_) return false;
    auto start = Clock::now();
    auto until = start + budget_;
    do {
      ::sched_yield();
      if (ready()) {
        grow();
        return true;
      }
    } while (Clock::now() < until);
    shrink();
    return false;
  }

 private:
  static constexpr std::chrono::microseconds kMin{5};
  static constexpr std::chrono::microseconds kMax{200};

  void grow() { budget_ = budget_ * 2 > kMax ? kMax : budget_ * 2; }
  void shrink() { budget_ = budget_ / 2 < kMin ? kMin : budget_ / 2; }

  bool enabled_;
  std::chrono::nanoseconds budget_ = std::chrono::microseconds(50);
};

}  // namespace vmhop

// Waiting for something that often comes within microseconds: poll briefly, then sleep.
#pragma once

#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace vmhop {

// How long to spin before sleeping. Waking a sleeping thread across virtual CPUs costs about 70 µs
// (measured: a fault takes 102 µs at the median when the handler sleeps, 30 µs when it spins), so
// spinning pays when waits are short, and only costs a CPU when they are long. What counts is how
// long a wait was, sleep included: a budget that only a lucky spin could raise would stay too small
// for good once it is shorter than what is waited for. (The kernel's haltpoll governor adapts the
// same way.)
class SpinBudget {
 public:
  std::chrono::nanoseconds get() const { return budget_; }

  // Half after a long wait; twice as long as a short one was, as the next may be a little longer.
  void note_wait(std::chrono::nanoseconds waited) {
    if (waited > kMax) {
      budget_ = std::max<std::chrono::nanoseconds>(budget_ / 2, kMin);
    } else {
      budget_ = std::clamp<std::chrono::nanoseconds>(waited * 2, budget_, kMax);
    }
  }

 private:
  static constexpr std::chrono::microseconds kMin{5};
  static constexpr std::chrono::microseconds kMax{200};

  std::chrono::nanoseconds budget_ = std::chrono::microseconds(50);
};

// Spins within such a budget. One object for each kind of wait; one thread owns it.
//
//   if (!spin.spin(ready)) {
//     ... sleep ...
//     spin.end_sleep();
//   }
class AdaptiveSpin {
 public:
  using Clock = std::chrono::steady_clock;

  // On one CPU the thread that would end the wait could not run meanwhile.
  AdaptiveSpin() : enabled_(::sysconf(_SC_NPROCESSORS_ONLN) > 1) {}
  bool enabled() const { return enabled_; }

  // Calls `ready` until it returns true or the budget is used up; returns what it last said.
  template <typename Ready>
  bool spin(Ready&& ready) {
    if (ready()) return true;
    if (!enabled_) return false;
    began_ = Clock::now();
    auto until = began_ + budget_.get();
    do {
      ::sched_yield();
      if (ready()) {
        budget_.note_wait(Clock::now() - began_);
        return true;
      }
    } while (Clock::now() < until);
    return false;
  }

  // After the sleep that followed a spin in vain.
  void end_sleep() {
    if (enabled_) budget_.note_wait(Clock::now() - began_);
  }

 private:
  bool enabled_;
  Clock::time_point began_;
  SpinBudget budget_;
};

}  // namespace vmhop

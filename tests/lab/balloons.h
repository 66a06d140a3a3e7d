// A guest whose memory is taken and given back all the time.
#pragma once

#include <array>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "cli/qmp_client.h"

namespace vmhop::lab {

// What the balloon leaves the guest, in MiB.
struct BalloonSizes {
  uint64_t inflated;
  uint64_t deflated;
};

// Inflates and deflates the balloons of both hosts' QEMUs in turn, until it is destroyed: whichever
// has the guest obeys.
class Balloons {
 public:
  Balloons(QmpClient first, QmpClient second, BalloonSizes sizes)
      : monitors_{std::move(first), std::move(second)},
        sizes_(sizes),
        thread_([this] { work(); }) {}
  ~Balloons() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    stop_.notify_all();
    thread_.join();
  }
  Balloons(const Balloons&) = delete;
  Balloons& operator=(const Balloons&) = delete;

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (bool inflate = true; !stopping_; inflate = !inflate) {
      uint64_t mib = inflate ? sizes_.inflated : sizes_.deflated;
      for (QmpClient& monitor : monitors_) {
        // One of the two has no guest, or is gone.
        (void)monitor.execute("balloon", {{"value", mib << 20}}, std::chrono::milliseconds(200));
      }
      stop_.wait_for(lock, std::chrono::milliseconds(100), [this] { return stopping_; });
    }
  }

  std::array<QmpClient, 2> monitors_;
  BalloonSizes sizes_;
  std::mutex mutex_;  // guards stopping_
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace vmhop::lab

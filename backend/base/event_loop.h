// A small poll() loop: descriptors, timers and work posted from other threads, each with a
// callback. One thread runs it and owns everything in it; only post() and stop() may be called
// from elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using FdCallback = std::function<void(short events)>;
  using TimerId = uint64_t;

  static Result<std::unique_ptr<EventLoop>> create();

  // Calls `callback` whenever `fd` has one of `events` (or an error). One callback a descriptor;
  // set() again replaces both. Descriptors are served in the order of `priority`, lowest first:
  // what must be seen before something else that arrived with it gets a lower number.
  void set(int fd, short events, FdCallback callback, int priority = 0);
  void set_events(int fd, short events);
  void remove(int fd);

  // Calls `callback` once, `delay` from now, unless cancelled.
  TimerId after(Clock::duration delay, std::function<void()> callback);
  void cancel(TimerId timer);

  // From any thread: runs `work` in the loop's thread.
  void post(std::function<void()> work);
  // From any thread: run() returns after the callback under way.
  void stop();

  // Serves until stop(). May be called again.
  Status run();
  // One round: waits at most `timeout_ms`, serves what is ready.
  Status run_once(int timeout_ms);

 private:
  struct Watch {
    short events;
    int priority;
    uint64_t generation;
    std::shared_ptr<FdCallback> callback;
  };

  explicit EventLoop(EventFd wake) : wake_(std::move(wake)) {}
  int timeout_until_next_timer(int timeout_ms) const;
  void run_due_timers();
  void run_posted();

  EventFd wake_;
  std::map<int, Watch> watches_;
  uint64_t next_generation_ = 1;
  std::multimap<Clock::time_point, std::pair<TimerId, std::function<void()>>> timers_;
  TimerId next_timer_ = 1;
  std::mutex posted_mutex_;  // guards posted_ and stopping_
  std::vector<std::function<void()>> posted_;
  bool stopping_ = false;
};

}  // namespace vmhop

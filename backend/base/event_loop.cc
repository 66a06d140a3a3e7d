#include "backend/base/event_loop.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>

namespace vmhop {

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  VMHOP_ASSIGN(EventFd wake, EventFd::create());
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(wake)));
}

void EventLoop::set(int fd, short events, FdCallback callback, int priority) {
  watches_[fd] = Watch{events, priority, next_generation_++,
                       std::make_shared<FdCallback>(std::move(callback))};
}

void EventLoop::set_events(int fd, short events) {
  if (auto it = watches_.find(fd); it != watches_.end()) it->second.events = events;
}

void EventLoop::remove(int fd) {
  watches_.erase(fd);
}

EventLoop::TimerId EventLoop::after(Clock::duration delay, std::function<void()> callback) {
  TimerId id = next_timer_++;
  timers_.emplace(Clock::now() + delay, std::pair(id, std::move(callback)));
  return id;
}

void EventLoop::cancel(TimerId timer) {
  auto found = std::find_if(timers_.begin(), timers_.end(),
                            [timer](const auto& entry) { return entry.second.first == timer; });
  if (found != timers_.end()) timers_.erase(found);
}

void EventLoop::post(std::function<void()> work) {
  {
    std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(work));
  }
  wake_.notify();
}

void EventLoop::stop() {
  {
    std::lock_guard lock(posted_mutex_);
    stopping_ = true;
  }
  wake_.notify();
}

Status EventLoop::run() {
  for (;;) {
    {
      std::lock_guard lock(posted_mutex_);
      if (std::exchange(stopping_, false)) return ok_status();
    }
    VMHOP_TRY(run_once(-1));
  }
}

Status EventLoop::run_once(int timeout_ms) {
  struct Ready {
    int priority;
    int fd;
    uint64_t generation;
    short events;
  };
  std::vector<pollfd> polled{{wake_.fd(), POLLIN, 0}};
  for (const auto& [fd, watch] : watches_)
    polled.push_back({fd, watch.events, 0});
  int count = ::poll(polled.data(), polled.size(), timeout_until_next_timer(timeout_ms));
  if (count < 0 && errno != EINTR) return Error::from_errno("poll", errno);

  std::vector<Ready> ready;
  if (count > 0) {
    if (polled[0].revents != 0) wake_.drain();
    for (size_t i = 1; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      const Watch& watch = watches_.at(polled[i].fd);
      ready.push_back({watch.priority, polled[i].fd, watch.generation, polled[i].revents});
    }
  }
  std::stable_sort(ready.begin(), ready.end(),
                   [](const Ready& a, const Ready& b) { return a.priority < b.priority; });
  run_posted();
  for (const Ready& entry : ready) {
    // An earlier callback of this round may have removed the watch, or put another in its place.
    auto it = watches_.find(entry.fd);
    if (it == watches_.end() || it->second.generation != entry.generation) continue;
    std::shared_ptr<FdCallback> keep = it->second.callback;
    (*keep)(entry.events);
  }
  run_due_timers();
  return ok_status();
}

int EventLoop::timeout_until_next_timer(int timeout_ms) const {
  if (timers_.empty()) return timeout_ms;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first - Clock::now());
  auto bounded = static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1'000'000));
  return timeout_ms < 0 ? bounded : std::min(bounded, timeout_ms);
}

void EventLoop::run_due_timers() {
  auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    auto callback = std::move(timers_.begin()->second.second);
    timers_.erase(timers_.begin());
    callback();
  }
}

void EventLoop::run_posted() {
  std::vector<std::function<void()>> work;
  {
    std::lock_guard lock(posted_mutex_);
    work.swap(posted_);
  }
  for (auto& item : work)
    item();
}

}  // namespace vmhop

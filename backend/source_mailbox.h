// How a page source reaches the thread that will own it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "backend/base/fd.h"
#include "backend/page_source.h"

namespace vmhop {

// put() and notify() from any thread; the rest by the owner, whose poll() the descriptor wakes.
class SourceMailbox {
 public:
  explicit SourceMailbox(EventFd wake) : wake_(std::move(wake)) {}

  // The owner is to use this page source from now on, or none when it is null. What it had is
  // destroyed in its thread.
  void put(std::unique_ptr<PageSource> source) {
    {
      std::lock_guard lock(mutex_);
      letter_ = std::move(source);
    }
    notify();
  }
  void notify() {
    news_.store(true, std::memory_order_release);
    wake_.notify();
  }

  int fd() const { return wake_.fd(); }
  // After poll() said that fd() is readable.
  void drain() const { wake_.drain(); }
  // One load, for an owner that is too busy to come to its poll(): something was put, or somebody
  // notified, since the last take().
  bool has_news() const { return news_.load(std::memory_order_acquire); }
  std::optional<std::unique_ptr<PageSource>> take() {
    news_.store(false, std::memory_order_relaxed);
    std::lock_guard lock(mutex_);
    return std::exchange(letter_, std::nullopt);
  }

 private:
  EventFd wake_;
  std::atomic<bool> news_{false};
  std::mutex mutex_;  // guards letter_
  std::optional<std::unique_ptr<PageSource>> letter_;
};

}  // namespace vmhop

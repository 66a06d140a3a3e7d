// How a page source reaches the thread that will own it.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "backend/base/fd.h"
#include "backend/page_source.h"

namespace vmhop {

// put() from any thread; take() and fd() by the owner, whose poll() the descriptor wakes.
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
    wake_.notify();
  }
  void notify() const { wake_.notify(); }

  int fd() const { return wake_.fd(); }
  std::optional<std::unique_ptr<PageSource>> take() {
    wake_.drain();
    std::lock_guard lock(mutex_);
    return std::exchange(letter_, std::nullopt);
  }

 private:
  EventFd wake_;
  std::mutex mutex_;  // guards letter_
  std::optional<std::unique_ptr<PageSource>> letter_;
};

}  // namespace vmhop

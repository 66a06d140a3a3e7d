// Requests from a supervisor's main thread to the thread that relocates or receives its VM.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

enum class Request {
  kGo,         // a relocation that is held may stop the VM
  kAbort,      // the user changed their mind; void after the commit
  kTerminate,  // the supervisor is to end: give the VM up in good order
  kLeaseLost,  // nobody waits any more for a VM that is to arrive; void once it is on its way
  kDrop,       // give up memory that is not drained, or a VM in doubt
  kRunHere,    // an operator decides that the VM is this side's
  kGiveBack,   // ... the other side's
};

class Mailbox {
 public:
  static Result<std::unique_ptr<Mailbox>> create() {
    VMHOP_ASSIGN(EventFd event, EventFd::create());
    return std::unique_ptr<Mailbox>(new Mailbox(std::move(event)));
  }

  // Any thread.
  void put(Request request, std::string reason) {
    {
      std::lock_guard lock(mutex_);
      requests_.emplace_back(request, std::move(reason));
    }
    event_.notify();
  }

  // The receiving thread: readable when there may be something to take.
  int fd() const { return event_.fd(); }
  std::optional<std::pair<Request, std::string>> take() {
    std::lock_guard lock(mutex_);
    if (requests_.empty()) {
      event_.drain();
      return std::nullopt;
    }
    auto request = std::move(requests_.front());
    requests_.pop_front();
    return request;
  }

 private:
  explicit Mailbox(EventFd event) : event_(std::move(event)) {}

  EventFd event_;
  std::mutex mutex_;  // guards requests_
  std::deque<std::pair<Request, std::string>> requests_;
};

}  // namespace vmhop

// For a listening socket in an event loop, when this process is out of descriptors: whoever waits
// there stays in its queue, so the loop would come back to it at once and do nothing else.
#pragma once

#include "backend/base/event_loop.h"

namespace vmhop {

// Belongs to the loop's thread. The socket must be in the loop, and outlive this.
class AcceptPause {
 public:
  AcceptPause(EventLoop& loop, int listening) : loop_(loop), listening_(listening) {}
  ~AcceptPause();
  AcceptPause(const AcceptPause&) = delete;
  AcceptPause& operator=(const AcceptPause&) = delete;

  // After accept() has failed with `error`: where that is a lack of something of this host, nobody
  // is accepted for a tenth of a second.
  void after_failure(int error);

 private:
  EventLoop& loop_;
  int listening_;
  EventLoop::TimerId timer_ = 0;
};

}  // namespace vmhop

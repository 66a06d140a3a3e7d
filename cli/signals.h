// The signals that ask a vmhop command to end, as a descriptor.
#pragma once

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

// Blocks SIGINT, SIGTERM and (unless it is ignored, as under nohup) SIGHUP in this thread and those
// it starts, and ignores SIGPIPE. To be made before any thread is.
class EndSignals {
 public:
  static Result<EndSignals> block();

  int fd() const { return fd_.get(); }
  // The next pending signal; 0 when there is none.
  int take() const;

 private:
  explicit EndSignals(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace vmhop

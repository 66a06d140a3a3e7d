// vmhop's end of the control page: whether the QEMU of one VM may punch holes into its RAM. The
// protocol and why it is safe: front_handshake.h.
#pragma once

#include <chrono>
#include <cstdint>

#include "backend/base/fd.h"
#include "backend/base/mapping.h"
#include "backend/base/result.h"
#include "qemu-memory-backend/front_handshake.h"

namespace vmhop {

// The control page's name in /proc/PID/fd.
inline constexpr const char* kFrontControlName = "vmhop-front-control";

// Any thread may call anything; any process that has the descriptor may attach.
class FrontControl {
 public:
  // A new page that blocks nothing. Its descriptor is for QEMU to inherit, and for others to
  // attach to.
  static Result<FrontControl> create();
  // The page behind `fd`, as it is: what was blocked stays so.
  static Result<FrontControl> attach(UniqueFd fd);

  const UniqueFd& fd() const { return fd_; }

  // Refuses discards from here on and waits until none is in progress. kTimedOut if one still is
  // after `timeout`; discards stay blocked then.
  Status block_discards(std::chrono::milliseconds timeout);
  void allow_discards();
  bool discards_blocked() const;

  // Discards done and refused since the page was created. Between block_discards() and
  // allow_discards() punches() does not move, or memory read in between cannot be trusted.
  uint64_t punches() const;
  uint64_t refused() const;

 private:
  FrontControl(UniqueFd fd, Mapping mapping) : fd_(std::move(fd)), mapping_(std::move(mapping)) {}
  vmhop_front_control* page() const {
    return reinterpret_cast<vmhop_front_control*>(mapping_.data());
  }

  UniqueFd fd_;
  Mapping mapping_;
};

}  // namespace vmhop

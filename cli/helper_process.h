// The exporter or the pager of a VM, started from this same program, and the channel to it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "backend/base/control_channel.h"
#include "backend/base/result.h"
#include "cli/child_process.h"

namespace vmhop {

struct Helper {
  ControlChannel channel;
  ProcessIdentity identity;
  // True once it has exited; waits for that at most as long as told.
  std::function<bool(std::chrono::milliseconds)> wait_exit;
  // When this returns nothing of it can act any more: it will neither record a commit nor touch a
  // page.
  std::function<void()> kill_and_reap;
  // How it exited, once it has.
  std::function<std::string()> describe_end = [] { return std::string("ended"); };

  // For one that is expected to exit by itself.
  void end_within(std::chrono::milliseconds grace) const {
    if (!wait_exit(grace)) kill_and_reap();
  }
};

inline constexpr const char* kExporterCommand = "internal-exporter";
inline constexpr const char* kPagerCommand = "internal-pager";

struct StartedHelper {
  Helper helper;
  std::shared_ptr<ChildProcess> child;  // for whoever reaps it when it leaves by itself
};

// Runs `vmhop COMMAND`, in a session of its own and with the other end of the channel as
// descriptor 3.
Result<StartedHelper> start_helper(const char* command);

}  // namespace vmhop

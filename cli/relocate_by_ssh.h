// The part of `vmhop relocate NAME ssh://HOST` that is not the relocation: a receiver at that host,
// for exactly as long as it is needed.
#pragma once

#include <memory>

#include "backend/session/tcp.h"
#include "cli/options.h"
#include "cli/remote_receiver.h"
#include "cli/runtime_dir.h"
#include "cli/signals.h"

namespace vmhop {

// Starts the receiver for the VM with these records. kRefused when that cannot be.
Result<std::unique_ptr<RemoteReceiver>> start_remote_receiver(const RelocateOptions& options,
                                                              const VmPaths& paths,
                                                              const Secret& key);

// Where to relocate to, once it waits there. kAborted when a signal came first.
Result<HostPort> wait_until_ready(RemoteReceiver& receiver, const EndSignals& signals,
                                  const RelocateOptions& options);

// Lets go of it and waits until it has ended, or has let go of ssh. Another signal ends the wait.
// False when that was not seen.
bool wait_until_gone(RemoteReceiver& receiver, const EndSignals& signals);

}  // namespace vmhop

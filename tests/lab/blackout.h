// The blackout as QEMU itself saw it, independent of what vmhop says: source and destination are on
// one clock here.
#pragma once

#include <chrono>

#include "backend/base/result.h"
#include "cli/qmp_client.h"

namespace vmhop::lab {

struct Blackout {
  // CLOCK_REALTIME, by the events' own time stamps.
  std::chrono::nanoseconds stopped{};
  std::chrono::nanoseconds resumed{};
  std::chrono::nanoseconds length() const { return resumed - stopped; }
};

// Of the last STOP that the source's monitor told and the first RESUME of the destination's. Each
// was connected before the relocation; the source's QEMU may be gone.
Result<Blackout> read_blackout(QmpClient& source, QmpClient& destination);

// The same moment on the steady clock.
std::chrono::steady_clock::time_point to_steady(std::chrono::nanoseconds realtime);

}  // namespace vmhop::lab

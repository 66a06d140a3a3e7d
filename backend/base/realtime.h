// The wall clock, in which QEMU stamps its events.
#pragma once

#include <time.h>

#include <cstdint>

namespace vmhop {

inline uint64_t realtime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace vmhop

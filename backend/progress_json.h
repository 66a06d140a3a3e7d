// Progress as local processes and scripts see it.
#pragma once

#include <nlohmann/json.hpp>

#include "backend/session/messages.h"

namespace vmhop {

inline nlohmann::json progress_to_json(const Progress& progress) {
  return {{"pages_total", progress.pages_total},
          {"pages_resident", progress.pages_resident},
          {"pages_faulted", progress.pages_faulted},
          {"pages_precached", progress.pages_precached},
          {"pages_hole", progress.pages_hole},
          {"bytes_read", progress.bytes_read},
          {"faults", progress.faults},
          {"fault_p50_ns", progress.fault_p50_ns},
          {"fault_p99_ns", progress.fault_p99_ns},
          {"fault_max_ns", progress.fault_max_ns},
          {"pages_verified", progress.pages_verified},
          {"pages_wrong", progress.pages_wrong}};
}

}  // namespace vmhop

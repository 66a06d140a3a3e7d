// What the demo found, for people and for scripts.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "tests/demo/meter.h"

namespace vmhop::demo {

struct Check {
  std::string what;
  Status held;
};

struct Report {
  // vmhop's own figures.
  double blackout_ms = 0;
  double drained_ms = 0;
  uint64_t ram_mib = 0;
  uint64_t pages_faulted = 0;
  uint64_t pages_precached = 0;
  uint64_t pages_hole = 0;
  double fault_p50_us = 0;
  double fault_p99_us = 0;
  std::string transport;
  std::string front;
  // The demo's.
  double qemu_blackout_ms = 0;  // 0: not known
  double guest_gap_ms = 0;
  double client_gap_ms = 0;
  double bytes_per_second_before = 0;
  double bytes_per_second_first = 0;  // in the first second after
  double bytes_per_second_drained = 0;
  uint64_t requests = 0;
  uint64_t failed_requests = 0;
  Costs costs;
  std::vector<Check> checks;

  bool verified() const;
  // Takes what `vmhop relocate --json` printed.
  void take_relocation(const nlohmann::json& printed);

  // One line, with the keys that scripts rely on.
  std::string to_json() const;
  std::string to_text() const;
};

// Whether vmhop's figure is what QEMU's own time stamps say, but for what reading them costs.
bool agrees(double vmhop_ms, double qemu_ms);

}  // namespace vmhop::demo

// What the lines of a guest's console say: see tests/guests/witness/witness.cc and
// tests/guests/baremetal/baremetal.c.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/lab/line_log.h"

namespace vmhop::lab {

// The number after "name=" in a line of the witness or the bare-metal guest.
std::optional<uint64_t> field(std::string_view line, std::string_view name);

struct Heartbeat {
  uint64_t number = 0;
  int64_t guest_ns = 0;
  uint64_t passes = 0;
  uint64_t errors = 0;
};
std::optional<Heartbeat> parse_heartbeat(std::string_view line);

// A guest's life as its console tells it.
struct WitnessReport {
  uint64_t heartbeats = 0;
  uint64_t missing = 0;  // numbers that never came
  uint64_t doubled = 0;  // numbers that came again, or late
  Clock::duration longest_gap{};
  Clock::time_point gap_began{};
  uint64_t passes = 0;  // so far
  uint64_t errors = 0;
  uint64_t synced = 0;                  // records that are on the disk
  std::vector<std::string> complaints;  // WITNESS-ERROR, DISK-ERROR, FATAL

  // Nothing lost, nothing doubled, nothing wrong.
  bool sound() const {
    return heartbeats > 0 && missing == 0 && doubled == 0 && errors == 0 && complaints.empty();
  }
  std::string describe() const;
};
WitnessReport read_witness(std::span<const Line> lines);

// The longest gap between two heartbeats of which at least one end lies within.
Clock::duration longest_gap_within(std::span<const Line> lines, Clock::time_point from,
                                   Clock::time_point to);

// The bare-metal guest's.
struct BaremetalReport {
  uint64_t passes = 0;
  uint64_t errors = 0;
  bool in_order = true;  // passes counted up by one
  std::vector<std::string> complaints;
  bool sound() const { return passes > 0 && errors == 0 && in_order && complaints.empty(); }
  std::string describe() const;
};
BaremetalReport read_baremetal(std::span<const Line> lines);

}  // namespace vmhop::lab

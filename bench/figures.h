// What one relocation did to a guest and what it cost, medians over rounds, and how they are shown.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/series.h"

namespace vmhop::bench {

// Each is empty where it does not exist: an idle guest has no throughput, a precopy that never
// converges no blackout.
struct Figures {
  std::optional<double> before;        // throughput before: MiB/s to clients, or rewritten
  std::optional<double> blackout_ms;   // the source's STOP to the destination's RESUME, by QEMU
  std::optional<double> gap_ms;        // the longest that a client, or the console, heard nothing
  std::optional<double> recovered_s;   // RESUME until throughput is at 95 % of before again
  std::optional<double> lost_s;        // throughput lost since the command, in seconds of it
  std::optional<double> total_s;       // the command until the source is not needed any more
  std::optional<double> drained_s;     // ... RESUME until then
  std::optional<double> wire_mib;      // received by both hosts, headers included
  std::optional<double> source_cpu_s;  // of all processes there but the guest's own virtual CPUs
  std::optional<double> destination_cpu_s;
  std::optional<double> overhead_mib;     // anonymous memory of vmhop's processes, the fuller side
  std::optional<double> page_tables_mib;  // ... and what the kernel keeps to map the guest for them

  // MiB a second, from before the command on; 0 is RESUME at the destination, or when it was given
  // up. Without values where `before` is.
  Series throughput;
};

struct Figure {
  const char* name;
  std::optional<double> Figures::*value;
  int decimals;
};
const std::vector<Figure>& all_figures();

// None of no values.
std::optional<double> median_of(std::vector<double> values);

// The moves of one guest over one link in one mode.
struct Cell {
  std::string workload;
  std::string link;
  std::string mode;
  uint64_t ram_mib;
  std::vector<Figures> rounds;

  // Of the rounds that have it.
  std::optional<double> median(std::optional<double> Figures::*value) const;
};

// For people.
void print_table(const std::vector<Cell>& cells);

// For machines: a line with all medians for each cell.
std::vector<nlohmann::json> cell_lines(const std::vector<Cell>& cells);

}  // namespace vmhop::bench

#include "bench/cell_goals.h"

#include <algorithm>

namespace vmhop::bench {
namespace {

using Value = std::optional<double> (*)(const Cell&);

// vmhop against the best of some of QEMU's modes.
struct AgainstQemu {
  int row;
  const char* figure;
  std::vector<std::string> workloads;
  const char* link;  // or null: any
  std::vector<std::string> modes;
  Value value;
};

template <std::optional<double> Figures::*kValue>
std::optional<double> figure_of(const Cell& cell) {
  return cell.median(kValue);
}

std::optional<double> cpu(const Cell& cell) {
  auto source = cell.median(&Figures::source_cpu_s);
  auto destination = cell.median(&Figures::destination_cpu_s);
  if (!source || !destination) return std::nullopt;
  return *source + *destination;
}

const std::vector<AgainstQemu>& rows_against_qemu() {
  static const std::vector<std::string> any = {"web", "writer", "cache", "idle"};
  static const std::vector<std::string> busy = {"web", "writer", "cache"};
  static const std::vector<std::string> all = {"precopy", "postcopy", "preempt"};
  static const std::vector<AgainstQemu> rows = {
      {1, "blackout_ms", any, "unlimited", all, figure_of<&Figures::blackout_ms>},
      {8, "total_s", {"web", "writer"}, "unlimited", {"preempt"}, figure_of<&Figures::total_s>},
      {9, "total_s", any, "1gbit", {"preempt"}, figure_of<&Figures::total_s>},
      {10, "lost_s", busy, nullptr, {"postcopy", "preempt"}, figure_of<&Figures::lost_s>},
      {11, "total_s", {"writer"}, "1gbit", {"precopy"}, figure_of<&Figures::total_s>},
      // Each mode moves the same guest, so seconds compare as seconds per GiB do.
      {12, "cpu_s", any, nullptr, {"preempt"}, cpu}};
  return rows;
}

constexpr uint64_t kSmallMib = 512;
constexpr uint64_t kLargeMib = 8192;

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_same_but_for_mode(const Cell& left, const Cell& right) {
  return left.workload == right.workload && left.link == right.link &&
         left.ram_mib == right.ram_mib;
}

std::optional<double> best_of_qemu(const AgainstQemu& row, const Cell& ours,
                                   const std::vector<Cell>& cells) {
  std::optional<double> best;
  for (const Cell& cell : cells) {
    if (!is_same_but_for_mode(cell, ours) || !contains(row.modes, cell.mode)) continue;
    auto value = row.value(cell);
    if (value && (!best || *value < *best)) best = value;
  }
  return best;
}

Comparison comparison(int row, const char* figure, const Cell& cell, double ours) {
  return {row, figure, cell.workload, cell.link, cell.ram_mib, ours, {}, {}};
}

void compare_to_qemu(const Cell& ours, const std::vector<Cell>& cells,
                     std::vector<Comparison>& found) {
  for (const AgainstQemu& row : rows_against_qemu()) {
    if (!contains(row.workloads, ours.workload)) continue;
    if (row.link != nullptr && ours.link != row.link) continue;
    auto value = row.value(ours);
    auto theirs = best_of_qemu(row, ours, cells);
    if (!value || !theirs) continue;
    found.push_back(comparison(row.row, row.figure, ours, *value));
    found.back().theirs = theirs;
  }
}

// Row 2.
void compare_sizes(const Cell& large, const std::vector<Cell>& cells,
                   std::vector<Comparison>& found) {
  if (large.ram_mib != kLargeMib) return;
  auto ours = large.median(&Figures::blackout_ms);
  for (const Cell& small : cells) {
    bool comparable = small.ram_mib == kSmallMib && small.mode == large.mode &&
                      small.workload == large.workload && small.link == large.link;
    auto theirs = small.median(&Figures::blackout_ms);
    if (!comparable || !ours || !theirs) continue;
    found.push_back(comparison(2, "blackout_ms", large, *ours));
    found.back().theirs = theirs;
  }
}

// Row 13.
void add_memory(const Cell& cell, std::vector<Comparison>& found) {
  auto memory = cell.median(&Figures::overhead_mib);
  if (!memory) return;
  found.push_back(comparison(13, "overhead_mib", cell, *memory));
  found.back().page_tables_mib = cell.median(&Figures::page_tables_mib);
}

}  // namespace

std::vector<Comparison> compare_cells(const std::vector<Cell>& cells) {
  std::vector<Comparison> found;
  for (const Cell& cell : cells) {
    if (cell.mode != "vmhop") continue;
    compare_to_qemu(cell, cells, found);
    compare_sizes(cell, cells, found);
    add_memory(cell, found);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& left, const auto& right) { return left.row < right.row; });
  return found;
}

}  // namespace vmhop::bench

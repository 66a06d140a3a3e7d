#include "bench/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace vmhop::bench {
namespace {

using Value = std::optional<double> Figures::*;

// A row of the goals, judged where a workload and link were measured.
struct Goal {
  int row;
  const char* figure;
  std::vector<std::string> workloads;
  const char* link;  // or null: any
  std::vector<std::string> against;
  double most;
  std::optional<double> (*value)(const Cell&);
};

template <Value kValue>
std::optional<double> median_of(const Cell& cell) {
  return cell.median(kValue);
}

std::optional<double> cpu(const Cell& cell) {
  auto source = cell.median(&Figures::source_cpu_s);
  auto destination = cell.median(&Figures::destination_cpu_s);
  if (!source || !destination) return std::nullopt;
  return *source + *destination;
}

const std::vector<Goal>& goals() {
  static const std::vector<std::string> any = {"web", "writer", "idle"};
  static const std::vector<std::string> busy = {"web", "writer"};
  static const std::vector<std::string> all = {"precopy", "postcopy", "preempt"};
  static const std::vector<Goal> goals = {
      {1, "blackout_ms", any, "unlimited", all, 1.0, median_of<&Figures::blackout_ms>},
      {8, "total_s", busy, "unlimited", {"preempt"}, 0.5, median_of<&Figures::total_s>},
      {9, "total_s", any, "1gbit", {"preempt"}, 1.0, median_of<&Figures::total_s>},
      {10, "lost_s", busy, nullptr, {"postcopy", "preempt"}, 0.5, median_of<&Figures::lost_s>},
      {11, "total_s", {"writer"}, "1gbit", {"precopy"}, 0.1, median_of<&Figures::total_s>},
      // Each mode moves the same guest, so seconds compare as seconds per GiB do.
      {12, "cpu_s", any, nullptr, {"preempt"}, 0.7, cpu}};
  return goals;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The best of those it is to be compared with.
std::optional<double> theirs(const Goal& goal, const Cell& ours, const std::vector<Cell>& cells) {
  std::optional<double> best;
  for (const Cell& cell : cells) {
    if (cell.workload != ours.workload || cell.link != ours.link) continue;
    if (!contains(goal.against, cell.mode)) continue;
    auto value = goal.value(cell);
    if (value && (!best || *value < *best)) best = value;
  }
  return best;
}

std::string shown(const std::optional<double>& value, int decimals) {
  return value ? fmt::format("{:.{}f}", *value, decimals) : "-";
}

}  // namespace

const std::vector<Figure>& all_figures() {
  static const std::vector<Figure> figures = {{"before", &Figures::before, 1},
                                              {"blackout_ms", &Figures::blackout_ms, 1},
                                              {"gap_ms", &Figures::gap_ms, 0},
                                              {"recovered_s", &Figures::recovered_s, 2},
                                              {"lost_s", &Figures::lost_s, 2},
                                              {"total_s", &Figures::total_s, 2},
                                              {"drained_s", &Figures::drained_s, 2},
                                              {"wire_mib", &Figures::wire_mib, 0},
                                              {"source_cpu_s", &Figures::source_cpu_s, 2},
                                              {"dest_cpu_s", &Figures::destination_cpu_s, 2},
                                              {"overhead_mib", &Figures::overhead_mib, 1}};
  return figures;
}

std::optional<double> Cell::median(Value value) const {
  std::vector<double> values;
  for (const Figures& round : rounds) {
    if (round.*value) values.push_back(*(round.*value));
  }
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

void print_table(const std::vector<Cell>& cells) {
  fmt::print("{:<8} {:<10} {:<12} {:>2}", "workload", "link", "mode", "n");
  for (const Figure& figure : all_figures())
    fmt::print(" {:>12}", figure.name);
  fmt::print("\n");
  for (const Cell& cell : cells) {
    fmt::print("{:<8} {:<10} {:<12} {:>2}", cell.workload, cell.link, cell.mode,
               cell.rounds.size());
    for (const Figure& figure : all_figures())
      fmt::print(" {:>12}", shown(cell.median(figure.value), figure.decimals));
    fmt::print("\n");
  }
}

std::vector<nlohmann::json> goal_lines(const std::vector<Cell>& cells) {
  std::vector<nlohmann::json> lines;
  for (const Goal& goal : goals()) {
    for (const Cell& ours : cells) {
      if (ours.mode != "vmhop" || !contains(goal.workloads, ours.workload)) continue;
      if (goal.link != nullptr && ours.link != goal.link) continue;
      auto value = goal.value(ours);
      auto other = theirs(goal, ours, cells);
      if (!value || !other) continue;
      double ratio = *value / *other;
      lines.push_back({{"row", goal.row},
                       {"figure", goal.figure},
                       {"workload", ours.workload},
                       {"link", ours.link},
                       {"ours", *value},
                       {"theirs", *other},
                       {"ratio", ratio},
                       {"goal", goal.most},
                       {"met", *value <= goal.most * *other}});
    }
  }
  for (const Cell& ours : cells) {
    auto memory = ours.median(&Figures::overhead_mib);
    if (!memory) continue;
    double most = 24 + 0.001 * static_cast<double>(ours.ram_mib);
    lines.push_back({{"row", 13},
                     {"figure", "overhead_mib"},
                     {"workload", ours.workload},
                     {"link", ours.link},
                     {"ours", *memory},
                     {"theirs", nullptr},
                     {"ratio", nullptr},
                     {"goal", most},
                     {"met", *memory <= most}});
  }
  return lines;
}

std::vector<nlohmann::json> cell_lines(const std::vector<Cell>& cells) {
  std::vector<nlohmann::json> lines;
  for (const Cell& cell : cells) {
    nlohmann::json line = {{"workload", cell.workload},
                           {"link", cell.link},
                           {"mode", cell.mode},
                           {"rounds", cell.rounds.size()}};
    for (const Figure& figure : all_figures()) {
      if (auto value = cell.median(figure.value)) line[figure.name] = *value;
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace vmhop::bench

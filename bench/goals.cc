#include "bench/goals.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>

namespace vmhop::bench {
namespace {

enum class Wanted { kAtMost, kAtLeast };

struct Goal {
  Wanted wanted;
  double ratio;  // ours to theirs
};

// Row 1 first. Row 13 is no ratio: most_memory_mib().
constexpr std::array<Goal, 12> kGoals = {{{Wanted::kAtMost, 1.0},
                                          {Wanted::kAtMost, 1.1},
                                          {Wanted::kAtMost, 1.15},
                                          {Wanted::kAtMost, 2.0},
                                          {Wanted::kAtLeast, 0.95},
                                          {Wanted::kAtLeast, 0.6},
                                          {Wanted::kAtLeast, 0.95},
                                          {Wanted::kAtMost, 0.5},
                                          {Wanted::kAtMost, 1.0},
                                          {Wanted::kAtMost, 0.5},
                                          {Wanted::kAtMost, 0.1},
                                          {Wanted::kAtMost, 0.7}}};
constexpr int kMemoryRow = 13;

double most_memory_mib(uint64_t ram_mib) {
  return 24 + 0.001 * static_cast<double>(ram_mib);
}

// A row may ask for several things.
struct Part {
  int row;
  std::string workload;
  std::string link;
  uint64_t ram_mib = 0;  // 0: any
};

std::vector<Part> all_parts() {
  std::vector<Part> parts;
  for (const char* workload : {"web", "writer", "idle"}) {
    for (uint64_t ram_mib : {1024, 8192})
      parts.push_back({1, workload, "unlimited", ram_mib});
  }
  parts.push_back({2, "idle", "unlimited"});
  for (int row : {3, 4}) {
    parts.push_back({row, "fault", "loopback"});
    parts.push_back({row, "fault", "rxe"});
  }
  for (const char* link : {"1gbit", "5gbit"})
    parts.push_back({5, "paused", link});
  parts.push_back({6, "paused", "unlimited"});
  parts.push_back({7, "bulk read", "rxe"});
  for (const char* workload : {"web", "writer"}) {
    parts.push_back({8, workload, "unlimited"});
    parts.push_back({9, workload, "1gbit"});
    for (int row : {10, 12}) {
      for (const char* link : {"unlimited", "1gbit"})
        parts.push_back({row, workload, link});
    }
  }
  parts.push_back({1, "cache", "unlimited", 1024});
  for (const char* link : {"unlimited", "1gbit"})
    parts.push_back({10, "cache", link});
  parts.push_back({11, "writer", "1gbit"});
  for (const char* workload : {"web", "writer", "idle"})
    parts.push_back({kMemoryRow, workload, "unlimited"});
  return parts;
}

bool is_of(const Comparison& measured, const Part& part) {
  return measured.row == part.row && measured.workload == part.workload &&
         measured.link == part.link && (part.ram_mib == 0 || measured.ram_mib == part.ram_mib);
}

std::string name_of(const Part& part) {
  std::string name = fmt::format("row {}: {}, link {}", part.row, part.workload, part.link);
  if (part.ram_mib != 0) name += fmt::format(", {} MiB of RAM", part.ram_mib);
  return name;
}

nlohmann::json or_null(const std::optional<double>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

std::string shown(const std::optional<double>& value) {
  return value ? fmt::format("{:.2f}", *value) : "-";
}

}  // namespace

Verdict judge(const Comparison& measured) {
  if (measured.row == kMemoryRow) {
    double most = most_memory_mib(measured.ram_mib);
    return {std::nullopt, most, measured.ours <= most};
  }
  const Goal& goal = kGoals.at(static_cast<size_t>(measured.row) - 1);
  double theirs = measured.theirs.value_or(0);
  double bound = goal.ratio * theirs;
  bool met = goal.wanted == Wanted::kAtMost ? measured.ours <= bound : measured.ours >= bound;
  // Who lost nothing may have gained something, by chance: that is no divisor.
  std::optional<double> ratio;
  if (theirs > 0) ratio = measured.ours / theirs;
  return {ratio, goal.ratio, met && measured.theirs};
}

nlohmann::json goal_line(const Comparison& measured) {
  Verdict verdict = judge(measured);
  nlohmann::json line = {{"row", measured.row},
                         {"figure", measured.figure},
                         {"workload", measured.workload},
                         {"link", measured.link},
                         {"ours", measured.ours},
                         {"theirs", or_null(measured.theirs)},
                         {"ratio", or_null(verdict.ratio)},
                         {"goal", verdict.goal},
                         {"met", verdict.met}};
  if (measured.ram_mib != 0) line["ram_mib"] = measured.ram_mib;
  if (measured.page_tables_mib) line["page_tables_mib"] = *measured.page_tables_mib;
  return line;
}

void print_goals(const std::vector<Comparison>& measured) {
  fmt::print("{:>3} {:<18} {:<11} {:<9} {:>5} {:>10} {:>10} {:>6} {:>6}  {}\n", "row", "figure",
             "workload", "link", "MiB", "ours", "theirs", "ratio", "goal", "met");
  for (const Comparison& one : measured) {
    Verdict verdict = judge(one);
    fmt::print("{:>3} {:<18} {:<11} {:<9} {:>5} {:>10.2f} {:>10} {:>6} {:>6.2f}  {}\n", one.row,
               one.figure, one.workload, one.link, one.ram_mib, one.ours, shown(one.theirs),
               shown(verdict.ratio), verdict.goal, verdict.met ? "yes" : "no");
  }
}

std::vector<std::string> missing_goals(const std::vector<Comparison>& measured) {
  std::vector<std::string> missing;
  for (const Part& part : all_parts()) {
    bool there = std::any_of(measured.begin(), measured.end(),
                             [&part](const Comparison& one) { return is_of(one, part); });
    if (!there) missing.push_back(name_of(part));
  }
  return missing;
}

}  // namespace vmhop::bench

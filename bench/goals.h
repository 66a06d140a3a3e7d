// What vmhop is to reach, in thirteen rows, and how a run did at each.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace vmhop::bench {

// What was measured for one row.
struct Comparison {
  int row = 0;  // from 1
  std::string figure;
  std::string workload;
  std::string link;
  uint64_t ram_mib = 0;  // 0: it is not about a guest
  double ours = 0;
  std::optional<double> theirs;           // none where the goal is no ratio
  std::optional<double> page_tables_mib;  // beside row 13: shown, not judged
};

struct Verdict {
  std::optional<double> ratio;
  double goal = 0;  // of the ratio, or of ours where there is none
  bool met = false;
};
Verdict judge(const Comparison& measured);

// For machines, and for people.
nlohmann::json goal_line(const Comparison& measured);
void print_goals(const std::vector<Comparison>& measured);

// Of all that the table of goals asks for, what a run has no figure of.
std::vector<std::string> missing_goals(const std::vector<Comparison>& measured);

}  // namespace vmhop::bench

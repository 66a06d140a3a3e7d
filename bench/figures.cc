#include "bench/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace vmhop::bench {
namespace {

using Value = std::optional<double> Figures::*;

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
                                              {"overhead_mib", &Figures::overhead_mib, 1},
                                              {"page_tables_mib", &Figures::page_tables_mib, 1}};
  return figures;
}

std::optional<double> median_of(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::optional<double> Cell::median(Value value) const {
  std::vector<double> values;
  for (const Figures& round : rounds) {
    if (round.*value) values.push_back(*(round.*value));
  }
  return median_of(std::move(values));
}

void print_table(const std::vector<Cell>& cells) {
  fmt::print("{:<8} {:<10} {:<12} {:>5} {:>2}", "workload", "link", "mode", "MiB", "n");
  for (const Figure& figure : all_figures())
    fmt::print(" {:>12}", figure.name);
  fmt::print("\n");
  for (const Cell& cell : cells) {
    fmt::print("{:<8} {:<10} {:<12} {:>5} {:>2}", cell.workload, cell.link, cell.mode, cell.ram_mib,
               cell.rounds.size());
    for (const Figure& figure : all_figures())
      fmt::print(" {:>12}", shown(cell.median(figure.value), figure.decimals));
    fmt::print("\n");
  }
}

std::vector<nlohmann::json> cell_lines(const std::vector<Cell>& cells) {
  std::vector<nlohmann::json> lines;
  for (const Cell& cell : cells) {
    nlohmann::json line = {{"workload", cell.workload},
                           {"link", cell.link},
                           {"mode", cell.mode},
                           {"ram_mib", cell.ram_mib},
                           {"rounds", cell.rounds.size()}};
    for (const Figure& figure : all_figures()) {
      if (auto value = cell.median(figure.value)) line[figure.name] = *value;
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace vmhop::bench

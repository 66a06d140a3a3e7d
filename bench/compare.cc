// vmhop and the ways to migrate of the stock QEMU, side by side: the same guests under the same
// load over the same link, in turns in one run; and vmhop's parts beside their floors.
// docs/performance.md explains the figures.
//
//   compare --quick [--plot DIR] [--json]
//   compare [--workload NAME…] [--rate RATE…] [--mode NAME…] [--mib N…] [--rounds N] [--plot DIR]
//           [--json]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>

#include "bench/cell_goals.h"
#include "bench/floors.h"
#include "bench/plan.h"
#include "bench/progress.h"
#include "bench/round.h"
#include "bench/throughput.h"
#include "bench/throughput_picture.h"

namespace vmhop::bench {
namespace {

struct Options {
  Matrix matrix;
  bool quick = false;
  bool throughput = false;
  bool floors = false;
  uint64_t writer_mib_per_second = 200;
  std::string vmhop = VMHOP_LAB_PROGRAM;
  std::string plots;  // a directory, or none
  bool json = false;
};

constexpr std::array kThroughputs = {std::pair{5, "1gbit"}, std::pair{5, "5gbit"},
                                     std::pair{6, "unlimited"}};
constexpr unsigned kThroughputRounds = 3;
constexpr unsigned kFloors = 3;  // programs

std::string summary(const Figures& figures) {
  std::string text;
  for (const Figure& figure : all_figures()) {
    if (auto value = figures.*figure.value)
      text += fmt::format(" {} {:.{}f}", figure.name, *value, figure.decimals);
  }
  return text;
}

void measure(Cell& cell, const CellPlan& plan, const Options& options, HostMemory& memory,
             Progress& progress) {
  RoundSpec spec{cell.mode,
                 cell.link,
                 {cell.workload, cell.ram_mib, options.writer_mib_per_second},
                 options.vmhop,
                 plan.until};
  std::string what =
      fmt::format("{} {} {} {} MiB", cell.workload, cell.link, cell.mode, cell.ram_mib);
  auto figures = run_round(spec, memory);
  if (!figures) return progress.failed(what, figures.error());
  progress.done(what, summary(*figures));
  cell.rounds.push_back(*figures);
}

// What is lost with a picture is the picture only.
void draw_throughput(const std::vector<Cell>& modes, const std::string& directory) {
  auto picture = throughput_picture(modes);
  if (!picture) return;
  if (auto drawn = draw(*picture, directory); !drawn)
    fmt::print(stderr, "compare: {}: {}\n", picture->name, drawn.error().message());
}

std::vector<Cell> relocate(const std::vector<Turns>& plan, const Options& options,
                           HostMemory& memory, Progress& progress) {
  std::vector<Cell> cells;
  for (const Turns& turns : plan) {
    std::vector<Cell> taking;
    unsigned rounds = 0;
    for (const CellPlan& cell : turns) {
      taking.push_back({cell.workload, cell.link, cell.mode, cell.ram_mib, {}});
      rounds = std::max(rounds, cell.rounds);
    }
    for (unsigned round = 0; round < rounds; ++round) {
      for (size_t i = 0; i < turns.size(); ++i) {
        if (round < turns[i].rounds) measure(taking[i], turns[i], options, memory, progress);
      }
    }
    if (!options.plots.empty()) draw_throughput(taking, options.plots);
    cells.insert(cells.end(), taking.begin(), taking.end());
  }
  return cells;
}

void add_throughput(int row, const std::string& link, const Options& options, HostMemory& memory,
                    Progress& progress, std::vector<Comparison>& found) {
  std::vector<double> ours;
  std::vector<double> theirs;
  for (unsigned round = 0; round < kThroughputRounds; ++round) {
    std::string what = fmt::format("precaching {}", link);
    auto rates = measure_throughput(link, options.vmhop, memory);
    if (!rates) {
      progress.failed(what, rates.error());
      continue;
    }
    progress.done(what,
                  fmt::format(" {:.1f} MB/s, iperf3 {:.1f} MB/s", rates->vmhop, rates->iperf3));
    ours.push_back(rates->vmhop);
    theirs.push_back(rates->iperf3);
  }
  if (ours.empty()) return;
  found.push_back(
      {row, "precache_mb_s", "paused", link, 0, *median_of(ours), median_of(theirs), {}});
}

void add_floors(Progress& progress, std::vector<Comparison>& found) {
  auto add = [&](const char* what, const Result<std::vector<Comparison>>& floors) {
    if (!floors) return progress.failed(what, floors.error());
    std::string text;
    for (const Comparison& one : *floors)
      text += fmt::format(" {} {:.1f} to {:.1f}", one.figure, one.ours, one.theirs.value_or(0));
    progress.done(what, text);
    found.insert(found.end(), floors->begin(), floors->end());
  };
  add("faults by TCP", faults_by_tcp());
  add("faults by RDMA", faults_by_rdma());
  add("reads by RDMA", reads_by_rdma());
}

void print(const std::vector<Cell>& cells, const std::vector<Comparison>& found, bool json) {
  if (!json) {
    print_table(cells);
    return print_goals(found);
  }
  for (const auto& line : cell_lines(cells))
    fmt::print("{}\n", line.dump());
  for (const Comparison& one : found)
    fmt::print("{}\n", goal_line(one).dump());
}

int compare(const Options& options) {
  std::vector<Turns> plan = options.quick ? quick_plan() : make_plan(options.matrix);
  bool throughput = options.quick || options.throughput;
  bool floors = options.quick || options.floors;
  Progress progress(rounds_in(plan) + (throughput ? kThroughputs.size() * kThroughputRounds : 0) +
                    (floors ? kFloors : 0));
  HostMemory memory;
  std::vector<Cell> cells = relocate(plan, options, memory, progress);
  std::vector<Comparison> found = compare_cells(cells);
  for (auto [row, link] : kThroughputs) {
    if (throughput) add_throughput(row, link, options, memory, progress, found);
  }
  if (floors) add_floors(progress, found);
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& left, const auto& right) { return left.row < right.row; });
  print(cells, found, options.json);
  if (!options.quick) return progress.failures() == 0 ? 0 : 1;

  std::vector<std::string> missing = missing_goals(found);
  for (const auto& part : missing)
    fmt::print(stderr, "compare: nothing to say about {}\n", part);
  return progress.failures() == 0 && missing.empty() ? 0 : 1;
}

}  // namespace
}  // namespace vmhop::bench

int main(int argc, char** argv) {
  using namespace vmhop::bench;
  CLI::App app(
      "Relocates the same guests by vmhop and by each mode of QEMU, in turns; needs root, for "
      "network namespaces");
  Options options;
  Matrix& matrix = options.matrix;
  bool blackout = false;
  app.add_flag("--quick", options.quick,
               "A fixed plan for all goals, half an hour; overrides what chooses another one");
  app.add_option("--workload", matrix.workloads, "What the guest does: web, cache, writer, idle")
      ->check(CLI::IsMember(all_workloads()))
      ->capture_default_str();
  app.add_option("--rate", matrix.links, "Links: unlimited, or a rate as tc takes it")
      ->capture_default_str();
  std::vector<std::string> modes = all_modes();
  modes.insert(modes.end(), encrypted_modes().begin(), encrypted_modes().end());
  app.add_option("--mode", matrix.modes,
                 "vmhop, precopy, postcopy, preempt; with -tls after it page data is encrypted")
      ->check(CLI::IsMember(modes))
      ->capture_default_str();
  app.add_option("--rounds", matrix.rounds, "Relocations of each kind")->capture_default_str();
  app.add_option("--mib", matrix.ram_mib, "Sizes of the guest's RAM in MiB")
      ->check(CLI::Range(512, 8192))
      ->capture_default_str();
  app.add_flag("--blackout", blackout, "Nothing but blackouts: no round lasts until drained");
  app.add_flag("--throughput", options.throughput, "Precaching beside iperf3, too");
  app.add_flag("--floors", options.floors, "Faults and reads beside their floors, too");
  app.add_option("--writer-rate", options.writer_mib_per_second,
                 "MiB of pages that the writer rewrites in a second")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--vmhop", options.vmhop, "The vmhop to measure, if not this build's")
      ->check(CLI::ExistingFile);
  app.add_option("--plot", options.plots,
                 "Draws throughput around the switch into this directory, a picture for each "
                 "workload and link: of each mode the round with the middle lost_s");
  app.add_flag("--json", options.json, "One JSON object a line: all medians, then the goals");
  CLI11_PARSE(app, argc, argv);
  if (blackout) matrix.until = Until::kResumed;
  auto drawable = options.plots.empty() ? vmhop::ok_status() : check_gnuplot();
  if (!drawable) {
    fmt::print(stderr, "compare: {}\n", drawable.error().message());
    return 1;
  }
  return compare(options);
}

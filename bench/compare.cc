// vmhop and the ways to migrate of the stock QEMU, side by side: the same guests under the same
// load over the same link, in turns in one run. docs/performance.md explains the figures.
//
//   compare [--quick] [--workload NAME…] [--rate RATE…] [--mode NAME…] [--rounds N]
//           [--plot DIR] [--json]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/figures.h"
#include "bench/movers.h"
#include "bench/round.h"
#include "bench/throughput_picture.h"

namespace vmhop::bench {
namespace {

struct Options {
  std::vector<std::string> workloads = {"web", "writer", "idle"};
  std::vector<std::string> links = {"unlimited", "1gbit", "100mbit"};
  std::vector<std::string> modes = all_modes();
  unsigned rounds = 5;
  uint64_t ram_mib = 1024;
  uint64_t writer_mib_per_second = 200;
  std::string vmhop = VMHOP_LAB_PROGRAM;
  std::string plots;  // a directory, or none
  bool json = false;
};

// A fixed matrix that ends within half an hour.
void make_quick(Options& options) {
  options.workloads = {"web", "writer", "idle"};
  options.links = {"unlimited", "1gbit"};
  options.modes = all_modes();
  options.rounds = 3;
}

std::string summary(const Figures& figures) {
  std::string text;
  for (const Figure& figure : all_figures()) {
    if (auto value = figures.*figure.value)
      text += fmt::format(" {} {:.{}f}", figure.name, *value, figure.decimals);
  }
  return text;
}

// A round that fails is told and left out: the others still say something.
void measure(Cell& cell, const Options& options, unsigned round, unsigned& failed) {
  RoundSpec spec{cell.mode,
                 cell.link,
                 {cell.workload, options.ram_mib, options.writer_mib_per_second},
                 options.vmhop};
  auto figures = run_round(spec);
  std::string what =
      fmt::format("{} {} {} round {}", cell.workload, cell.link, cell.mode, round + 1);
  if (!figures) {
    ++failed;
    return fmt::print(stderr, "compare: {}: {}\n", what, figures.error().message());
  }
  fmt::print(stderr, "{}:{}\n", what, summary(*figures));
  cell.rounds.push_back(*figures);
}

// What is lost with a picture is the picture only.
void draw_throughput(const std::vector<Cell>& modes, const std::string& directory) {
  auto picture = throughput_picture(modes);
  if (!picture) return;
  if (auto drawn = draw(*picture, directory); !drawn)
    fmt::print(stderr, "compare: {}: {}\n", picture->name, drawn.error().message());
}

int compare(const Options& options) {
  std::vector<Cell> cells;
  unsigned failed = 0;
  for (const auto& workload : options.workloads) {
    for (const auto& link : options.links) {
      std::vector<Cell> modes;
      for (const auto& mode : options.modes)
        modes.push_back({workload, link, mode, options.ram_mib, {}});
      for (unsigned round = 0; round < options.rounds; ++round) {
        for (Cell& cell : modes)
          measure(cell, options, round, failed);
      }
      if (!options.plots.empty()) draw_throughput(modes, options.plots);
      cells.insert(cells.end(), modes.begin(), modes.end());
    }
  }
  if (options.json) {
    for (const auto& line : cell_lines(cells))
      fmt::print("{}\n", line.dump());
    for (const auto& line : goal_lines(cells))
      fmt::print("{}\n", line.dump());
  } else {
    print_table(cells);
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace vmhop::bench

int main(int argc, char** argv) {
  using namespace vmhop::bench;
  CLI::App app(
      "Relocates the same guests by vmhop and by each mode of QEMU, in turns; needs root, for "
      "network namespaces");
  Options options;
  bool quick = false;
  app.add_flag("--quick", quick, "The fixed small matrix; overrides what chooses another one");
  app.add_option("--workload", options.workloads, "What the guest does: web, cache, writer, idle")
      ->check(CLI::IsMember(all_workloads()))
      ->capture_default_str();
  app.add_option("--rate", options.links, "Links: unlimited, or a rate as tc takes it")
      ->capture_default_str();
  std::vector<std::string> modes = all_modes();
  modes.insert(modes.end(), encrypted_modes().begin(), encrypted_modes().end());
  app.add_option("--mode", options.modes,
                 "vmhop, precopy, postcopy, preempt; with -tls after it page data is encrypted")
      ->check(CLI::IsMember(modes))
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "Relocations of each kind")->capture_default_str();
  app.add_option("--mib", options.ram_mib, "The guest's RAM in MiB")
      ->check(CLI::Range(512, 2048))
      ->capture_default_str();
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
  if (quick) make_quick(options);
  auto drawable = options.plots.empty() ? vmhop::ok_status() : check_gnuplot();
  if (!drawable) {
    fmt::print(stderr, "compare: {}\n", drawable.error().message());
    return 1;
  }
  return compare(options);
}

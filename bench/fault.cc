// What one fault costs, from the guest's touch to its resume: vmhop's pager beside the floor, which
// is a userfaultfd handler and a round trip of its transport with nothing else to do. All by turns
// in one run.
//
//   fault [--transport tcp] [--rounds N] [--faults N] [--plot DIR] [--json]
//   ci/rxe-lab -- build/release/bench/fault --transport rdma
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "bench/latency_picture.h"
#include "bench/rdma_faults.h"
#include "bench/tcp_faults.h"

namespace vmhop::bench {
namespace {

using Samples = std::vector<double>;  // µs

// So much that precaching does not end before the faults do.
constexpr uint64_t kPrecachedBytes = uint64_t{1} << 30;
constexpr uint64_t kBytes = 128 << 20;

// Pager and floors take turns of so few faults: milliseconds, so that they meet the same machine.
constexpr uint64_t kTurn = 50;
// Not counted: what spun for another one's faults has gone to sleep by then, and spins for its own.
constexpr uint64_t kSettling = 10;

double quantile(Samples samples, double share) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  return samples[static_cast<size_t>(share * static_cast<double>(samples.size() - 1))];
}

struct Stages {
  Samples post;     // event read → request out
  Samples read;     // request out → data there
  Samples install;  // data there → installed and woken
};

struct Figures {
  Samples sleeping_floor;
  Samples spinning_floor;
  Samples alone;
  Samples precaching;
  Samples ratios;  // of each round's medians: alone to the better floor
  Stages stages;   // medians of each round, alone
};

struct Contender {
  std::unique_ptr<FaultStage> stage;
  std::unique_ptr<FaultServer> server;
  std::vector<uint64_t> pages;  // yet to be touched
  Samples samples;
};

Result<Contender> floor(const FaultTransport& transport, Waiting waiting) {
  Contender contender;
  VMHOP_ASSIGN(contender.stage, FaultStage::create(kBytes));
  VMHOP_ASSIGN(contender.server, transport.floor(*contender.stage, waiting));
  return contender;
}

Status take_turn(Contender& contender) {
  for (uint64_t i = 0; i < kSettling + kTurn; ++i) {
    uint64_t page = contender.pages.back();
    contender.pages.pop_back();
    double took = contender.stage->touch(page);
    VMHOP_TRY(contender.stage->check(page));
    if (i >= kSettling) contender.samples.push_back(took);
  }
  return contender.server->failure();
}

void append(Samples& all, const Samples& more) {
  all.insert(all.end(), more.begin(), more.end());
}

Status measure_by_turns(const FaultTransport& transport, uint64_t faults, Figures& figures) {
  VMHOP_ASSIGN(Contender sleeping, floor(transport, Waiting::kSleeping));
  VMHOP_ASSIGN(Contender spinning, floor(transport, Waiting::kSpinning));
  Contender alone;
  VMHOP_ASSIGN(alone.stage, FaultStage::create(kBytes));
  VMHOP_ASSIGN(auto lanes, transport.lanes(*alone.stage));
  VMHOP_ASSIGN(auto pager,
               PagerServer::start(*alone.stage, std::move(lanes), PagerServer::Precaching::kNone));
  const PagerCounters& counters = pager->counters();
  alone.server = std::move(pager);

  uint64_t turns = (faults + kTurn - 1) / kTurn;
  std::array contenders{&sleeping, &spinning, &alone};
  for (Contender* contender : contenders) {
    uint64_t pages = contender->stage->pages();
    contender->pages = scattered_pages(pages, turns * (kSettling + kTurn));
  }
  for (uint64_t turn = 0; turn < turns; ++turn) {
    for (Contender* contender : contenders)
      VMHOP_TRY(take_turn(*contender));
  }
  append(figures.sleeping_floor, sleeping.samples);
  append(figures.spinning_floor, spinning.samples);
  append(figures.alone, alone.samples);
  double floor = std::min(quantile(sleeping.samples, 0.5), quantile(spinning.samples, 0.5));
  figures.ratios.push_back(quantile(alone.samples, 0.5) / floor);
  auto median = [](const Histogram& stage_times) {
    return static_cast<double>(stage_times.quantile_ns(0.5)) / 1000;
  };
  figures.stages.post.push_back(median(counters.fault_post));
  figures.stages.read.push_back(median(counters.fault_read));
  figures.stages.install.push_back(median(counters.fault_install));
  return ok_status();
}

// Only of pages that were not there yet; ends when precaching is through.
Status measure_precaching(const FaultTransport& transport, uint64_t faults, Samples& samples) {
  VMHOP_ASSIGN(auto stage, FaultStage::create(kPrecachedBytes));
  VMHOP_ASSIGN(auto lanes, transport.lanes(*stage));
  VMHOP_ASSIGN(auto server,
               PagerServer::start(*stage, std::move(lanes), PagerServer::Precaching::kAllTheWhile));
  uint64_t measured = 0;
  for (uint64_t page : scattered_pages(stage->pages(), stage->pages())) {
    if (measured == faults) break;
    if (!server->is_absent(page)) continue;
    samples.push_back(stage->touch(page));
    VMHOP_TRY(stage->check(page));
    ++measured;
  }
  return server->failure();
}

Result<Figures> measure(const FaultTransport& transport, uint64_t rounds, uint64_t faults) {
  Figures figures;
  for (uint64_t round = 0; round < rounds; ++round) {
    fmt::print(stderr, "\rround {} of {}", round + 1, rounds);
    VMHOP_TRY(measure_by_turns(transport, faults, figures));
    VMHOP_TRY(measure_precaching(transport, faults, figures.precaching));
  }
  fmt::print(stderr, "\n");
  return figures;
}

void print(const Figures& figures, const nlohmann::json& report) {
  auto row = [](const char* name, const Samples& samples) {
    fmt::print("{:<28}{:9.1f} µs{:9.1f} µs{:9.1f} µs{:9}\n", name, quantile(samples, 0.5),
               quantile(samples, 0.9), quantile(samples, 0.99), samples.size());
  };
  fmt::print("{:<28}{:>12}{:>12}{:>12}{:>9}\n", "from touch to resume", "p50", "p90", "p99",
             "faults");
  row("floor, asleep in poll()", figures.sleeping_floor);
  row("floor, spinning first", figures.spinning_floor);
  row("pager", figures.alone);
  row("pager, while precaching", figures.precaching);
  fmt::print(
      "of that, at the median: request out after {:.1f} µs, data in {:.1f}, installed {:.1f}; "
      "event, wake-up and resume {:.1f}\n",
      quantile(figures.stages.post, 0.5), quantile(figures.stages.read, 0.5),
      quantile(figures.stages.install, 0.5), report["rest_us"].get<double>());
  fmt::print(
      "p50 against the better floor  {:.2f} ({:.2f} to {:.2f} by rounds)   to reach <= 1.15\n"
      "p99 while precaching          {:.2f} x the p99 alone   to reach <= 2\n",
      report["p50_ratio"].get<double>(), quantile(figures.ratios, 0), quantile(figures.ratios, 1),
      report["p99_ratio"].get<double>());
}

Status draw_latencies(const Figures& figures, const std::string& directory) {
  return draw(latency_picture({{"pager", figures.alone},
                               {"pager, while precaching", figures.precaching},
                               {"floor, asleep in poll()", figures.sleeping_floor},
                               {"floor, spinning first", figures.spinning_floor}}),
              directory);
}

Status run(const FaultTransport& transport, uint64_t rounds, uint64_t faults,
           const std::string& plots, bool as_json) {
  if (!plots.empty()) VMHOP_TRY(check_gnuplot());
  VMHOP_ASSIGN(Figures figures, measure(transport, rounds, faults));
  double floor =
      std::min(quantile(figures.sleeping_floor, 0.5), quantile(figures.spinning_floor, 0.5));
  double alone = quantile(figures.alone, 0.5);
  double staged = quantile(figures.stages.post, 0.5) + quantile(figures.stages.read, 0.5) +
                  quantile(figures.stages.install, 0.5);
  nlohmann::json report = {
      {"floor_p50_us", floor},
      {"fault_p50_us", alone},
      {"p50_ratio", alone / floor},
      {"fault_p99_us", quantile(figures.alone, 0.99)},
      {"fault_precaching_p50_us", quantile(figures.precaching, 0.5)},
      {"fault_precaching_p99_us", quantile(figures.precaching, 0.99)},
      {"p99_ratio", quantile(figures.precaching, 0.99) / quantile(figures.alone, 0.99)},
      {"post_us", quantile(figures.stages.post, 0.5)},
      {"read_us", quantile(figures.stages.read, 0.5)},
      {"install_us", quantile(figures.stages.install, 0.5)},
      {"rest_us", alone - staged}};
  print(figures, report);
  if (as_json) fmt::print("{}\n", report.dump());
  return plots.empty() ? ok_status() : draw_latencies(figures, plots);
}

}  // namespace
}  // namespace vmhop::bench

int main(int argc, char** argv) {
  CLI::App app{"What one fault costs, beside the floor"};
  uint64_t rounds = 5;
  uint64_t faults = 4000;
  bool json = false;
  std::string transport = "tcp";
  app.add_option("--transport", transport, "How pages travel: tcp, rdma")
      ->check(CLI::IsMember({"tcp", "rdma"}))
      ->capture_default_str();
  std::string plots;
  app.add_option("--rounds", rounds, "Turns of each way")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--faults", faults, "Faults in each turn")
      ->check(CLI::Range(50, 25000))
      ->capture_default_str();
  app.add_option("--plot", plots, "Draws the distribution of the latencies into this directory");
  app.add_flag("--json", json, "End with one line of JSON");
  CLI11_PARSE(app, argc, argv);
  auto chosen = transport == "tcp" ? vmhop::bench::faults_by_tcp() : vmhop::bench::faults_by_rdma();
  if (auto done = vmhop::bench::run(chosen, rounds, faults, plots, json); !done) {
    fmt::print(stderr, "fault: {}\n", done.error().message());
    return 1;
  }
  return 0;
}

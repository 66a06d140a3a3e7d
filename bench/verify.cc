// What `--verify` costs: the same paused guest relocated with it and without, in turns in one run.
//
//   verify [--rounds N] [--link unlimited|RATE] [--json]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "bench/throughput.h"

namespace vmhop::bench {
namespace {

struct Way {
  const char* name;
  std::vector<std::string> options;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Drained times of one way without and with, in turns: which one begins changes from round to
// round.
Status compare(const Way& way, const std::string& link, unsigned rounds, bool json) {
  HostMemory memory;
  std::vector<double> plain;
  std::vector<double> verified;
  std::vector<double> ratios;
  auto measure = [&](bool verify) -> Result<double> {
    std::vector<std::string> options = way.options;
    if (verify) options.emplace_back("--verify");
    VMHOP_ASSIGN(QuietMove move, measure_quiet_move(link, VMHOP_LAB_PROGRAM, memory, options));
    (verify ? verified : plain).push_back(move.drained_s);
    return move.drained_s;
  };
  for (unsigned round = 0; round < rounds; ++round) {
    bool verify_first = round % 2 == 1;
    VMHOP_ASSIGN(double first, measure(verify_first));
    VMHOP_ASSIGN(double second, measure(!verify_first));
    ratios.push_back(verify_first ? first / second : second / first);
    fmt::print(stderr, "{} {} round {}: drained {:.3f} s, verified {:.3f} s\n", way.name, link,
               round + 1, plain.back(), verified.back());
  }
  if (json) {
    fmt::print(
        "{{\"lanes\":\"{}\",\"link\":\"{}\",\"rounds\":{},\"drained_s\":{:.4f},"
        "\"verified_drained_s\":{:.4f},\"ratio\":{:.4f}}}\n",
        way.name, link, rounds, median(plain), median(verified), median(ratios));
  } else {
    fmt::print("{} lanes, {}: drained {:.3f} s, verified {:.3f} s, median ratio {:.3f}\n", way.name,
               link, median(plain), median(verified), median(ratios));
  }
  std::fflush(stdout);
  return ok_status();
}

}  // namespace
}  // namespace vmhop::bench

int main(int argc, char** argv) {
  CLI::App app("What --verify costs; needs root, for network namespaces");
  unsigned rounds = 5;
  std::string link = "unlimited";
  bool json = false;
  app.add_option("--rounds", rounds, "Pairs of relocations")->capture_default_str();
  app.add_option("--link", link, "\"unlimited\", or a rate as tc(8) takes it")
      ->capture_default_str();
  app.add_flag("--json", json, "One JSON object a way");
  CLI11_PARSE(app, argc, argv);
  for (const vmhop::bench::Way& way :
       {vmhop::bench::Way{"plain", {"--plain-data"}}, vmhop::bench::Way{"encrypted", {}}}) {
    if (auto done = vmhop::bench::compare(way, link, rounds, json); !done) {
      fmt::print(stderr, "verify: {}\n", done.error().message());
      return 1;
    }
  }
  return 0;
}

// tests/chaos: relocations while things go wrong, by the seed.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/chaos_runs/chaos_run.h"

namespace vmhop::chaos {
namespace {

using nlohmann::json;

struct Options {
  uint64_t seed = 1;
  unsigned runs = 50;
  std::optional<unsigned> only;
  std::string transport = "tcp";
  bool json = false;
  bool verbose = false;
};

// The counts of one transport.
json run_all(const Options& options, bool rdma) {
  json totals = {{"runs", 0},
                 {"committed", 0},
                 {"died", 0},
                 {"lost", 0},
                 {"doubled", 0},
                 {"wrong_bytes", 0},
                 {"faults", json::object()},
                 {"failed_runs", json::array()}};
  auto count = [&totals](const char* name, bool yes) {
    if (yes) totals[name] = totals[name].get<unsigned>() + 1;
  };
  unsigned first = options.only.value_or(0);
  unsigned last = options.only ? *options.only + 1 : options.runs;
  for (unsigned run = first; run < last; ++run) {
    RunPlan plan = plan_run(options.seed, run, rdma);
    RunResult result = run_chaos(plan, rdma);
    fmt::print(stderr, "{} {}: {}{}: {} [{}]\n", rdma ? "rdma" : "tcp", run,
               result.good() ? "" : "WRONG: ", result.committed ? "committed" : "not committed",
               result.story, plan.describe());
    count("runs", true);
    count("committed", result.committed);
    count("died", result.died);
    count("lost", result.lost);
    count("doubled", result.doubled);
    count("wrong_bytes", result.wrong_bytes);
    for (const Fault& fault : plan.faults) {
      json& faults = totals["faults"][fault.name()];
      faults = faults.is_null() ? 1U : faults.get<unsigned>() + 1;
    }
    if (!result.good()) totals["failed_runs"].push_back(run);
  }
  return totals;
}

int chaos_main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Relocates a VM that checks its own memory, again and again, while processes are killed or "
      "stopped, hosts die and cables are cut at random moments. Needs root.",
      "chaos");
  app.add_option("--seed", options.seed, "What the faults are made from")->capture_default_str();
  app.add_option("--runs", options.runs, "How many relocations")->capture_default_str();
  app.add_option("--only", options.only, "This run of the seed alone, counted from 0");
  app.add_option("--transport", options.transport,
                 "tcp; or rdma, beside the hosts of ci/rxe-lab --hosts 2")
      ->check(CLI::IsMember({"tcp", "rdma"}))
      ->capture_default_str();
  app.add_flag("--json", options.json, "End with one line of JSON");
  CLI11_PARSE(app, argc, argv);
  if (::geteuid() != 0) {
    fmt::print(stderr, "chaos: the lab makes network namespaces: run it as root\n");
    return 2;
  }
  json totals = run_all(options, options.transport == "rdma");
  bool good = totals["failed_runs"].empty();
  if (options.json) {
    fmt::print("{}\n", totals.dump());
  } else {
    fmt::print(
        "{} runs, {} committed, {} died of what nothing survives; lost {}, doubled {}, "
        "wrong bytes {}\n",
        totals["runs"].get<unsigned>(), totals["committed"].get<unsigned>(),
        totals["died"].get<unsigned>(), totals["lost"].get<unsigned>(),
        totals["doubled"].get<unsigned>(), totals["wrong_bytes"].get<unsigned>());
    for (const json& run : totals["failed_runs"]) {
      fmt::print("again: tests/chaos --seed {} --transport {} --only {}\n", options.seed,
                 options.transport, run.get<unsigned>());
    }
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace vmhop::chaos

int main(int argc, char** argv) {
  return vmhop::chaos::chaos_main(argc, argv);
}

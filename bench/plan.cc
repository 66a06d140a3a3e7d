#include "bench/plan.h"

#include <numeric>

namespace vmhop::bench {
namespace {

// What a workload is measured for where RAM has its usual size. Precopy is what the goals look at
// last, and the slowest where it does not converge: it goes once, and over the shaped link only
// where its row is about that.
Turns usual_turns(const std::string& workload, const std::string& link) {
  constexpr unsigned kRounds = 3;
  Turns turns;
  for (const char* mode : {"vmhop", "postcopy", "preempt"})
    turns.push_back({workload, link, mode, 1024, kRounds});
  if (link == "unlimited" || workload == "writer")
    turns.push_back({workload, link, "precopy", 1024, 1});
  return turns;
}

// Blackouts only, of much RAM beside the best of QEMU's modes, and of little RAM beside it.
Turns large_turns(const std::string& workload, unsigned rounds) {
  Turns turns;
  for (const char* mode : {"vmhop", "postcopy", "preempt"})
    turns.push_back({workload, "unlimited", mode, 8192, rounds, Until::kResumed});
  turns.push_back({workload, "unlimited", "vmhop", 512, rounds, Until::kResumed});
  return turns;
}

}  // namespace

std::vector<Turns> make_plan(const Matrix& matrix) {
  std::vector<Turns> plan;
  if (matrix.rounds == 0) return plan;
  for (const auto& workload : matrix.workloads) {
    for (const auto& link : matrix.links) {
      Turns turns;
      for (uint64_t ram_mib : matrix.ram_mib) {
        for (const auto& mode : matrix.modes)
          turns.push_back({workload, link, mode, ram_mib, matrix.rounds, matrix.until});
      }
      plan.push_back(std::move(turns));
    }
  }
  return plan;
}

std::vector<Turns> quick_plan() {
  std::vector<Turns> plan;
  for (const char* workload : {"web", "writer", "idle"})
    plan.push_back(usual_turns(workload, "unlimited"));
  for (const char* workload : {"web", "writer"})
    plan.push_back(usual_turns(workload, "1gbit"));
  plan.push_back(large_turns("idle", 5));
  plan.push_back(large_turns("writer", 3));
  plan.push_back(large_turns("web", 2));
  return plan;
}

unsigned rounds_in(const std::vector<Turns>& plan) {
  return std::accumulate(plan.begin(), plan.end(), 0U, [](unsigned sum, const Turns& turns) {
    return std::accumulate(turns.begin(), turns.end(), sum,
                           [](unsigned more, const CellPlan& cell) { return more + cell.rounds; });
  });
}

}  // namespace vmhop::bench

#include "bench/plan.h"

#include <numeric>

namespace vmhop::bench {
namespace {

// Of a GiB, and without precopy, whose blackout is longer than anybody's.
Turns usual_turns(const std::string& workload, const std::string& link, unsigned rounds) {
  Turns turns;
  for (const char* mode : {"vmhop", "postcopy", "preempt"})
    turns.push_back({workload, link, mode, 1024, rounds});
  return turns;
}

// Blackouts only, and without precopy, which would have to move all of it first.
Turns large_turns(const std::string& workload, unsigned rounds) {
  Turns turns;
  for (const char* mode : {"vmhop", "postcopy", "preempt"})
    turns.push_back({workload, "unlimited", mode, 8192, rounds, Until::kResumed});
  return turns;
}

// ... and of little RAM beside it.
Turns sizes_turns() {
  constexpr unsigned kRounds = 3;
  Turns turns = large_turns("idle", 2);
  turns[0].rounds = kRounds;
  turns.push_back({"idle", "unlimited", "vmhop", 512, kRounds, Until::kResumed});
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
  plan.push_back(usual_turns("web", "unlimited", 2));
  for (const char* workload : {"writer", "idle"})
    plan.push_back(usual_turns(workload, "unlimited", 3));
  for (const char* workload : {"web", "writer"})
    plan.push_back(usual_turns(workload, "1gbit", 1));
  // Once, as it does not converge there.
  plan.back().push_back({"writer", "1gbit", "precopy", 1024, 1});
  // redis fills its data set anew in each round, so each takes a minute.
  for (const char* link : {"unlimited", "1gbit"})
    plan.push_back(usual_turns("cache", link, 1));
  plan.push_back(sizes_turns());
  plan.push_back(large_turns("writer", 1));
  plan.push_back(large_turns("web", 1));
  return plan;
}

unsigned rounds_in(const std::vector<Turns>& plan) {
  return std::accumulate(plan.begin(), plan.end(), 0U, [](unsigned sum, const Turns& turns) {
    return std::accumulate(turns.begin(), turns.end(), sum,
                           [](unsigned more, const CellPlan& cell) { return more + cell.rounds; });
  });
}

}  // namespace vmhop::bench

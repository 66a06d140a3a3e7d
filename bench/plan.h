// Which relocations a run makes, and in which order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/movers.h"

namespace vmhop::bench {

struct CellPlan {
  std::string workload;
  std::string link;
  std::string mode;
  uint64_t ram_mib = 1024;
  unsigned rounds = 0;
  Until until = Until::kDrained;
};

// They take turns, so that whatever else the machine does falls on all of them.
using Turns = std::vector<CellPlan>;

struct Matrix {
  std::vector<std::string> workloads = {"web", "writer", "idle"};
  std::vector<std::string> links = {"unlimited", "1gbit", "100mbit"};
  std::vector<std::string> modes = all_modes();
  std::vector<uint64_t> ram_mib = {1024};
  unsigned rounds = 5;
  Until until = Until::kDrained;
};

// Of all these, sizes and modes take turns.
std::vector<Turns> make_plan(const Matrix& matrix);

// A fixed plan that ends within half an hour, with what compare adds to it, and has something to
// say about each row of the goals.
std::vector<Turns> quick_plan();

// Relocations in all.
unsigned rounds_in(const std::vector<Turns>& plan);

}  // namespace vmhop::bench

// What a host has more of than before: what was left behind.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/base/result.h"

namespace vmhop::load {

struct Belongings {
  // Of processes that live on: descriptors, threads and mappings of each.
  struct Of {
    int pid = 0;
    std::string what;
    uint64_t descriptors = 0;
    uint64_t threads = 0;
    uint64_t mappings = 0;
    uint64_t private_kib = 0;
  };
  std::vector<Of> processes;
  uint64_t shared_kib = 0;  // shared memory of the whole machine: RAM files, page maps
};

// `pids`: those to look at.
Result<Belongings> look_at(const std::vector<int>& pids);

// What grew by more than a process may need for what it did once; empty: nothing.
std::vector<std::string> grown(const Belongings& before, const Belongings& after);

}  // namespace vmhop::load

// Each workload by itself, for make_workload() alone.
#pragma once

#include <memory>
#include <string>

#include "bench/workload.h"

namespace vmhop::bench {

// Threads of QEMU get names, so that the guest's own CPU time can be told from what moving it
// costs.
inline constexpr const char* kGuestName = "guest,debug-threads=on";

// `image` is what ci/guest-image made.
std::unique_ptr<Workload> make_web(const WorkloadSpec& spec, const std::string& image);
std::unique_ptr<Workload> make_cache(const WorkloadSpec& spec, const std::string& image);
// At a rate of 0 it is idle.
std::unique_ptr<Workload> make_writer(uint64_t ram_mib, uint64_t mib_per_second);

}  // namespace vmhop::bench

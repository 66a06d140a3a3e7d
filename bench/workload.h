// What a guest is busy with while it is relocated, and how much of it gets done.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "bench/series.h"
#include "tests/lab/clock.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/network.h"
#include "tests/lab/qemu_place.h"

namespace vmhop::bench {

struct WorkloadSpec {
  std::string name;  // of all_workloads()
  uint64_t ram_mib = 1024;
  uint64_t writer_mib_per_second = 200;
};

class Workload {
 public:
  // Between two moments: MiB a second, to clients or rewritten.
  using Rate = RateBetween;

  virtual ~Workload() = default;

  // The same on source and destination, up to the place.
  virtual std::vector<std::string> qemu_command(const lab::QemuPlace& place) const = 0;
  virtual Status wait_until_ready(const lab::GuestConsole& console) const = 0;
  // From where on its RAM may be filled from outside while it is stopped.
  virtual uint64_t fill_from() const = 0;

  // Puts load on the guest from here to the end of this object.
  virtual Status start_load(const lab::Network& network) = 0;
  // Null when there is nothing to lose.
  virtual Rate rate(const lab::GuestConsole& console) const = 0;
  // The longest silence that touches this time; null when nobody listens.
  virtual std::optional<lab::Clock::duration> longest_gap(const lab::GuestConsole& console,
                                                          lab::Clock::time_point from,
                                                          lab::Clock::time_point to) const = 0;
  // Ends the load: whether all went well for the clients.
  virtual Status stop_load() = 0;
};

// "web", "cache", "writer", "idle".
const std::vector<std::string>& all_workloads();

// `directory` is a scratch directory of the lab.
Result<std::unique_ptr<Workload>> make_workload(const WorkloadSpec& spec,
                                                const std::string& directory);

}  // namespace vmhop::bench

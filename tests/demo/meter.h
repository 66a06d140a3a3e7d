// By which way the pages of a relocation came, and what reading them cost the source.
#pragma once

#include <cstdint>
#include <string>

#include "backend/base/result.h"
#include "tests/lab/process.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::demo {

struct Costs {
  // CPU time of the source's vmhop processes between commit and drained, to the tick. User time and
  // system time: the lab's kernels do not tell them apart.
  double source_cpu_ms = 0;
  // What came through the destination's interface that carries RDMA alone, headers included.
  uint64_t rdma_bytes = 0;
  // What came for the destination's host itself, and not for a guest on it, headers included:
  // vmhop's session and its lanes, and between kernels also the lab's own few commands.
  uint64_t session_bytes = 0;
};

class Meter {
 public:
  // From here to stop(): start it right before the relocation. Both hosts must outlive it.
  // `rdma_interface` is the destination's, or empty.
  static Result<Meter> start(const lab::VmhopHost& source, const lab::VmhopHost& destination,
                             const std::string& vm, const std::string& rdma_interface);
  Result<Costs> stop();

 private:
  struct Received {
    uint64_t rdma = 0;
    uint64_t session = 0;
  };
  Meter(const lab::VmhopHost& destination, std::string rdma_interface, Received before,
        lab::Process samples)
      : destination_(&destination),
        rdma_interface_(std::move(rdma_interface)),
        before_(before),
        samples_(std::move(samples)) {}
  static Result<Received> received(const lab::VmhopHost& host, const std::string& rdma_interface);

  const lab::VmhopHost* destination_;
  std::string rdma_interface_;
  Received before_;
  lab::Process samples_;
};

// The rise, over all processes, between what they had used when the VM was committed and the last
// that was seen of them; `samples` are source-cpu's lines. In clock ticks.
uint64_t ticks_after_commit(const std::string& samples);

}  // namespace vmhop::demo

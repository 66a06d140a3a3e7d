// What moving a guest costs its hosts, from outside: sampled in /proc, whoever moves it.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "tests/lab/network.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::bench {

struct Costs {
  // Of all processes in the host's namespace, less what the guest's virtual CPUs used (in them:
  // also what their page faults took in the kernel). To the clock tick, 10 ms.
  std::array<double, 2> cpu_s{};  // source, destination
  // What both hosts received for themselves and not for a guest on them, headers included.
  double wire_mib = 0;
  // Anonymous memory of vmhop's processes, at its highest.
  std::array<double, 2> vmhop_mib{};
  // ... and their page tables, most of which map the guest's memory.
  std::array<double, 2> vmhop_page_tables_mib{};
};

// In clock ticks; `guest` is the part of `all` that was the guest's virtual CPUs'.
struct Ticks {
  double all = 0;
  double guest = 0;
};

// Of a process, or of all of vmhop's on a host.
struct Memory {
  double anonymous_kib = 0;
  double page_tables_kib = 0;
};

class CostMeter {
 public:
  // From here to stop(). All must outlive it.
  static Result<std::unique_ptr<CostMeter>> start(const lab::Network& network,
                                                  const lab::VmhopHost& source,
                                                  const lab::VmhopHost& destination);
  ~CostMeter();
  CostMeter(const CostMeter&) = delete;
  CostMeter& operator=(const CostMeter&) = delete;

  Result<Costs> stop();

 private:
  // Kept apart: of a process that is ending, its total is still there when its threads are not.
  struct Used {
    Ticks first;
    Ticks last;
  };
  struct Host {
    const lab::VmhopHost* host;
    int namespace_fd;
    double received;
    std::map<pid_t, Used> used;
    Memory vmhop;  // each at its highest
  };

  explicit CostMeter(EventFd stop) : stop_(std::move(stop)) {}
  void work();
  void sample();
  void end();

  EventFd stop_;
  std::vector<Host> hosts_;  // the thread's until it has ended
  bool first_sample_ = true;
  std::thread thread_;
};

}  // namespace vmhop::bench

// Two hosts and a VM on one of them, whatever connects them: network namespaces of this kernel, or
// two kernels with RDMA.
#pragma once

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "cli/vm_record.h"
#include "tests/chaos_runs/fault_plan.h"
#include "tests/lab/baremetal_guest.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/network.h"
#include "tests/lab/uml_host.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::chaos {

inline constexpr const char* kVm = "vm";

class World {
 public:
  // By TCP, or by RDMA (where ci/rxe-lab --hosts 2 runs this program).
  static Result<std::unique_ptr<World>> create(bool rdma);
  ~World();

  bool slow() const { return rdma_; }
  std::chrono::seconds patience() const { return std::chrono::seconds(rdma_ ? 180 : 60); }
  const lab::VmhopHost& host(Side side) const { return hosts_[static_cast<size_t>(side)]; }
  lab::GuestConsole& console() { return *console_; }

  // The VM at the source, past its first pass; and a destination that waits for it.
  Status boot();
  Status await();
  Result<lab::Process> relocate(const RunPlan& plan);
  Status set_rate(const std::string& rate);
  Status set_cable(Side side, bool plugged_in);

  // Of the VM's directory there: nothing when there is none.
  std::optional<VmRecord> record(Side side) const;
  bool commit_is_pending() const;  // at the source
  // To a process of the VM; nothing when it is not alive.
  Status send(Side side, const ProcessIdentity& process, int signal) const;
  bool is_alive(Side side, const ProcessIdentity& process) const;

  // `vmhop status`; null when there is no such VM.
  nlohmann::json status(Side side) const;
  // In the foreground of its own, kept until this world ends.
  Status start(Side side, const std::vector<std::string>& arguments);
  Result<QmpClient> monitor(Side side) const;
  // What its supervisor has said of it, before anything was recovered.
  bool ran_at_destination() const;
  // How everything that was started here ended what it had to say.
  std::string last_words() const;
  // After a failed attempt the destination has a fresh QEMU: true once for each, and its console is
  // followed from then on.
  bool destination_has_another_qemu();

 private:
  explicit World(bool rdma) : rdma_(rdma) {}

  bool rdma_;
  std::string directory_;  // with RDMA
  std::unique_ptr<lab::Network> network_;
  std::vector<lab::UmlHost> kernels_;
  std::vector<lab::VmhopHost> hosts_;
  lab::BaremetalGuest guest_;
  std::unique_ptr<lab::GuestConsole> console_;
  std::vector<lab::Process> processes_;
  ProcessIdentity followed_;  // the destination's QEMU
  size_t receiving_ = 0;      // in processes_
  bool shaped_ = false;
};

}  // namespace vmhop::chaos

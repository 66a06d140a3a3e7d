// Many small VMs on two hosts, each at one of them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "tests/lab/baremetal_guest.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/network.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::load {

class Fleet {
 public:
  static Result<std::unique_ptr<Fleet>> create();

  // One more VM of so much RAM, on host 0 or 1, past its first pass.
  Status add(unsigned host, uint64_t ram_mib);
  size_t size() const { return vms_.size(); }

  // All of them to the other host, at the same time; until each is drained. With `paused` they are
  // stopped meanwhile, so that they need no CPU. How long it took.
  Result<std::chrono::duration<double>> hop(bool paused);
  // One attempt of each to go where nobody waits for it.
  Status attempt_in_vain();
  // Each passes twice over its memory from now on, with nothing wrong ever since it was booted.
  Status verify();

  // Processes that live on while VMs stay where they are: supervisors and QEMUs.
  Result<std::vector<int>> pids() const;
  // Processes and directories of VMs that are on neither host's list; empty: none.
  std::vector<std::string> strays() const;

 private:
  struct Vm {
    std::string name;
    uint16_t port = 0;
    unsigned host = 0;
    lab::BaremetalGuest guest;
    std::unique_ptr<lab::GuestConsole> console;
    std::optional<lab::Process> supervisor;
    std::optional<lab::Process> next;  // where it goes
  };
  lab::QemuPlace place(const Vm& vm, unsigned host) const;
  Status await(Vm& vm);
  Result<lab::Process> relocate(const Vm& vm) const;
  Status set_running(const Vm& vm, bool runs) const;

  std::unique_ptr<lab::Network> network_;
  std::vector<lab::VmhopHost> hosts_;
  std::vector<Vm> vms_;
  unsigned hops_ = 0;
};

}  // namespace vmhop::load

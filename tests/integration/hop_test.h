// What the tests on two hosts have in common: a VM at the source, a destination that waits for it,
// and a guest whose own checks judge what happened.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/vm_record.h"
#include "tests/integration/expect_ok.h"
#include "tests/lab/baremetal_guest.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/network.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::lab {

class HopTest : public testing::Test {
 protected:
  static constexpr const char* kVm = "vm";
  // So slow that a person could act between the stop of the VM and the commit, or before drained.
  static constexpr const char* kSlow = "2mbit";

  void SetUp() override;
  void TearDown() override;

  // The bare-metal guest at the source, running and past its first pass.
  Status boot();
  // A destination that waits for it; the guest's console is followed there too.
  Status await();
  Status await(const BaremetalGuest& guest, const std::vector<std::string>& options = {});
  // After a failed attempt: until the destination has a fresh QEMU.
  Status await_again();

  Result<Process> start_relocation(const std::vector<std::string>& options = {});
  Result<Finished> relocate(const std::vector<std::string>& options = {});

  // To where the VM runs at the destination and its memory, over a slow link, follows for a while.
  Status relocate_slowly();

  Status slow_down();
  Status speed_up();

  // Passes over its memory from now on, with nothing wrong ever since it was booted.
  Status guest_goes_on();
  Status runs_on_at_source();
  Status runs_at_destination();
  // A relocation that nothing disturbs, to what await() left waiting.
  Status relocates_well();
  Status no_process_left_at(const std::string& host);
  Status nothing_left_at(const std::string& host);
  Result<std::string> state_at(const VmhopHost& host);
  Status wait_for_state(const VmhopHost& host, const std::string& state);
  // Kills the QEMU of a host, by what vmhop says about it.
  Status kill_qemu(const VmhopHost& host);
  // Kills a process of the VM by its record: VmRecord's supervisor, exporter, pager or qemu. It is
  // gone when this returns.
  Status kill(const VmhopHost& host, ProcessIdentity VmRecord::*who);
  // The first process that this host starts from now on and that is about to tell of the event is
  // stopped.
  static std::string mark_of(const VmhopHost& host);  // with its process id, once it is
  static void stop_before(VmhopHost& host, const std::string& event);
  static void stop_after(VmhopHost& host, const std::string& event);  // once it has told of it
  static Result<ProcessIdentity> wait_until_stopped(const VmhopHost& host);
  static Status go_on(const ProcessIdentity& stopped);
  // `vmhop recover`, until it supervises the VM.
  Result<Process> recover(const VmhopHost& host);

  BaremetalGuest guest_;
  NetworkSpec network_spec_;
  std::unique_ptr<Network> network_;
  std::optional<VmhopHost> source_;
  std::optional<VmhopHost> destination_;
  std::unique_ptr<GuestConsole> console_;
  std::optional<Process> running_;
  std::optional<Process> receiving_;
  std::optional<Process> relocating_;  // what is followed while other things happen
  std::optional<QmpClient> source_monitor_;
  std::optional<QmpClient> destination_monitor_;
  unsigned attempts_ = 0;
  // For every await() and start_relocation().
  std::vector<std::string> destination_options_;
  std::vector<std::string> source_options_;
};

// How often a text has another one in it.
size_t count_of(std::string_view text, std::string_view wanted);

// Waits for an event; `status` is that of MIGRATION, or empty.
Status wait_for_event(QmpClient& monitor, const std::string& name, const std::string& status = {});

}  // namespace vmhop::lab

// What the tests of relocations between two kernels have in common.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/integration/expect_ok.h"
#include "tests/lab/baremetal_guest.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::lab {

class HostsRelocate : public testing::Test {
 protected:
  static constexpr const char* kVm = "vm";
  // Everything in a User Mode Linux takes many times as long as elsewhere.
  static constexpr std::chrono::seconds kPatience{120};

  void SetUp() override;
  void TearDown() override;

  // The guest runs at the source and has been over all its memory.
  void boot();
  // `host` waits for it, the last of supervisors_.
  void await(const VmhopHost& host, const std::vector<std::string>& options = {"--rdma-trusted"});
  // It hops from one host, where it runs, to the other; the report of the relocation.
  void hop(const VmhopHost& from, const VmhopHost& to, const std::vector<std::string>& options,
           nlohmann::json& report);
  // To where the VM runs at the destination, over an RDMA link so slow that its memory takes a
  // minute to follow: whatever happens next happens to reads under way.
  void start_slow_hop();
  Status slow_down();
  Status speed_up();

  // The VM passes its checks of all its memory, more than once from here on.
  void expect_passes();
  void expect_sound();
  Status wait_for_status(const VmhopHost& host,
                         const std::function<bool(const nlohmann::json&)>& wanted);
  static bool link_is_down(const nlohmann::json& status) { return !status.value("link", true); }

  std::string directory_;
  std::optional<UmlHost> source_kernel_;
  std::optional<UmlHost> destination_kernel_;
  std::optional<VmhopHost> source_;
  std::optional<VmhopHost> destination_;
  std::unique_ptr<GuestConsole> console_;
  BaremetalGuest guest_;
  bool slow_ = false;
  std::vector<Process> supervisors_;
  std::optional<Process> relocating_;
};

}  // namespace vmhop::lab

// A whole relocation between two kernels.
#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's

#include <filesystem>
#include <optional>

#include "cli/exit_codes.h"
#include "tests/integration/expect_ok.h"
#include "tests/lab/baremetal_guest.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/vmhop_host.h"
#include "tests/lab/witness_log.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

constexpr const char* kVm = "vm";
// Everything in a User Mode Linux takes many times as long as elsewhere.
constexpr std::chrono::seconds kPatience{120};

class HostsRelocate : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = "/tmp/vmhop-hop-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    directory_ = path;
    ASSERT_VALUE(source_, UmlHost::find("source"));
    ASSERT_VALUE(destination_, UmlHost::find("destination"));
    ASSERT_VALUE(console_, GuestConsole::create());
    guest_.kernel = VMHOP_LAB_BAREMETAL;
    guest_.ram_mib = 64;
  }
  void TearDown() override {
    console_.reset();
    std::filesystem::remove_all(directory_);
  }

  // The VM passes its checks of all its memory, more than once from here on.
  void expect_passes() {
    for (int pass = 0; pass < 2; ++pass)  // the first may have begun before
      ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience), console_->log().size()));
    auto report = read_baremetal(console_->log().lines());
    EXPECT_TRUE(report.sound()) << report.describe();
  }
  // It hops from one host, where it runs, to the other; the report of the relocation.
  void hop(const VmhopHost& from, const VmhopHost& to, const std::vector<std::string>& options,
           nlohmann::json& report) {
    ASSERT_VALUE(Process receiving,
                 to.receive(kVm, guest_.qemu_command(to.place()), {"--rdma-trusted"}));
    supervisors_.push_back(std::move(receiving));
    ASSERT_OK(console_->attach(to.place().console, within(kPatience)));
    ASSERT_VALUE(Process relocating, from.relocate(kVm, to.endpoint(), options));
    ASSERT_VALUE(Finished relocated, finish(relocating, within(kPatience)));
    ASSERT_TRUE(relocated.status.clean()) << relocated.describe();
    report = relocated.json();
    EXPECT_EQ(report.value("state", ""), "drained") << relocated.describe();
  }

  std::vector<Process> supervisors_;
  std::string directory_;
  std::optional<UmlHost> source_;
  std::optional<UmlHost> destination_;
  std::unique_ptr<GuestConsole> console_;
  BaremetalGuest guest_;
};

TEST_F(HostsRelocate, AVmThereAndBackByRdmaWithItsMemoryWhole) {
  ASSERT_VALUE(VmhopHost source, VmhopHost::create(*source_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(VmhopHost destination,
               VmhopHost::create(*destination_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(Process running, source.run(kVm, guest_.qemu_command(source.place())));
  ASSERT_OK(console_->attach(source.place().console, within(kPatience)));
  ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience)));

  nlohmann::json report;
  ASSERT_NO_FATAL_FAILURE(
      hop(source, destination, {"--rdma-trusted", "--transport", "rdma"}, report));
  EXPECT_EQ(report.value("transport", ""), "rdma") << report;
  EXPECT_GT(report.value("registered_bytes", 0), 0) << report;
  ASSERT_NO_FATAL_FAILURE(expect_passes());

  ASSERT_NO_FATAL_FAILURE(hop(destination, source, {"--rdma-trusted"}, report));
  EXPECT_EQ(report.value("transport", ""), "rdma") << report;  // auto takes it
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

TEST_F(HostsRelocate, AVmByTcpWhenOneSideDoesNotTrustTheFabric) {
  ASSERT_VALUE(VmhopHost source, VmhopHost::create(*source_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(VmhopHost destination,
               VmhopHost::create(*destination_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(Process running, source.run(kVm, guest_.qemu_command(source.place())));
  ASSERT_OK(console_->attach(source.place().console, within(kPatience)));
  ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience)));
  nlohmann::json report;
  ASSERT_NO_FATAL_FAILURE(hop(source, destination, {}, report));
  EXPECT_EQ(report.value("transport", ""), "tcp") << report;
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

TEST_F(HostsRelocate, NoVmByRdmaAloneWhenTheDestinationDoesNotTrustTheFabric) {
  ASSERT_VALUE(VmhopHost source, VmhopHost::create(*source_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(VmhopHost destination,
               VmhopHost::create(*destination_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(Process running, source.run(kVm, guest_.qemu_command(source.place())));
  ASSERT_OK(console_->attach(source.place().console, within(kPatience)));
  ASSERT_VALUE(Process receiving,
               destination.receive(kVm, guest_.qemu_command(destination.place())));
  ASSERT_VALUE(Process relocating, source.relocate(kVm, destination.endpoint(),
                                                   {"--rdma-trusted", "--transport", "rdma"}));
  ASSERT_VALUE(Finished refused, finish(relocating, within(kPatience)));
  EXPECT_EQ(refused.status.code, kExitRefused) << refused.describe();
  EXPECT_NE(refused.err.find("--rdma-trusted"), std::string::npos) << refused.describe();
  ASSERT_NO_FATAL_FAILURE(expect_passes());  // it runs on here
}

TEST_F(HostsRelocate, AVmByTcpWhenTheCableOfTheRdmaDeviceIsOut) {
  ASSERT_VALUE(VmhopHost source, VmhopHost::create(*source_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(VmhopHost destination,
               VmhopHost::create(*destination_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(Process running, source.run(kVm, guest_.qemu_command(source.place())));
  ASSERT_OK(console_->attach(source.place().console, within(kPatience)));
  ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience)));
  ASSERT_OK(source_->cut());
  nlohmann::json report;
  hop(source, destination, {"--rdma-trusted"}, report);
  ASSERT_OK(source_->join());
  EXPECT_EQ(report.value("transport", ""), "tcp") << report;
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

// Reads are under way when the cable goes: they fail, and the pages come by another way.
TEST_F(HostsRelocate, AVmWhoseRdmaCableIsPulledInTheMiddle) {
  guest_.ram_mib = 384;
  ASSERT_VALUE(VmhopHost source, VmhopHost::create(*source_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(VmhopHost destination,
               VmhopHost::create(*destination_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(Process running, source.run(kVm, guest_.qemu_command(source.place())));
  ASSERT_OK(console_->attach(source.place().console, within(kPatience)));
  ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience)));
  ASSERT_VALUE(Process receiving, destination.receive(kVm, guest_.qemu_command(destination.place()),
                                                      {"--rdma-trusted"}));
  ASSERT_OK(console_->attach(destination.place().console, within(kPatience)));
  ASSERT_VALUE(Process relocating, source.relocate(kVm, destination.endpoint(),
                                                   {"--rdma-trusted", "--transport", "rdma"}));
  auto runs_there = [](std::string_view text) {
    return text.find("runs here; its memory follows") != std::string_view::npos;
  };
  ASSERT_OK(receiving.wait_for_err(runs_there, within(kPatience)));
  ASSERT_OK(source_->cut());
  auto relocated = finish(relocating, within(kPatience));
  ASSERT_OK(source_->join());
  ASSERT_TRUE(relocated.ok());
  EXPECT_TRUE(relocated->status.clean()) << relocated->describe();
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

}  // namespace
}  // namespace vmhop::lab

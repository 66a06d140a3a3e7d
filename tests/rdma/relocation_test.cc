// A whole relocation between two kernels, and what can happen to cables and hosts meanwhile.
#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's

#include <filesystem>
#include <optional>
#include <thread>

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
// A frozen guest is silent for at least this long; one that runs passes every second or two.
constexpr std::chrono::seconds kSilence{10};

class HostsRelocate : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = "/tmp/vmhop-hop-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    directory_ = path;
    ASSERT_VALUE(source_kernel_, UmlHost::find("source"));
    ASSERT_VALUE(destination_kernel_, UmlHost::find("destination"));
    ASSERT_VALUE(source_, VmhopHost::create(*source_kernel_, directory_, VMHOP_LAB_PROGRAM));
    ASSERT_VALUE(destination_,
                 VmhopHost::create(*destination_kernel_, directory_, VMHOP_LAB_PROGRAM));
    ASSERT_VALUE(console_, GuestConsole::create());
    guest_.kernel = VMHOP_LAB_BAREMETAL;
    guest_.ram_mib = 64;
  }
  void TearDown() override {
    console_.reset();
    supervisors_.clear();
    if (slow_) (void)source_->output_of({"tc", "qdisc", "del", "dev", "vec0", "root"});
    std::filesystem::remove_all(directory_);
  }

  // The guest runs at the source and has been over all its memory.
  void boot() {
    ASSERT_VALUE(Process running, source_->run(kVm, guest_.qemu_command(source_->place())));
    supervisors_.push_back(std::move(running));
    ASSERT_OK(console_->attach(source_->place().console, within(kPatience)));
    ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience)));
  }
  // `host` waits for it, the last of supervisors_.
  void await(const VmhopHost& host, const std::vector<std::string>& options = {"--rdma-trusted"}) {
    ASSERT_VALUE(Process receiving, host.receive(kVm, guest_.qemu_command(host.place()), options));
    supervisors_.push_back(std::move(receiving));
    ASSERT_OK(console_->attach(host.place().console, within(kPatience)));
  }
  // It hops from one host, where it runs, to the other; the report of the relocation.
  void hop(const VmhopHost& from, const VmhopHost& to, const std::vector<std::string>& options,
           nlohmann::json& report) {
    ASSERT_NO_FATAL_FAILURE(await(to));
    ASSERT_VALUE(Process relocating, from.relocate(kVm, to.endpoint(), options));
    ASSERT_VALUE(Finished relocated, finish(relocating, within(kPatience)));
    ASSERT_TRUE(relocated.status.clean()) << relocated.describe();
    report = relocated.json();
    EXPECT_EQ(report.value("state", ""), "drained") << relocated.describe();
  }
  // To where the VM runs at the destination, over an RDMA link so slow that its memory takes a
  // minute to follow: whatever happens next happens to reads under way.
  void start_slow_hop() {
    guest_.ram_mib = 256;
    ASSERT_NO_FATAL_FAILURE(boot());
    ASSERT_NO_FATAL_FAILURE(await(*destination_));
    slow_ = true;
    ASSERT_VALUE(std::string limited,
                 source_->output_of({"tc", "qdisc", "add", "dev", "vec0", "root", "tbf", "rate",
                                     "30mbit", "burst", "64kb", "limit", "16mb"}));
    ASSERT_VALUE(relocating_, source_->relocate(kVm, destination_->endpoint(),
                                                {"--rdma-trusted", "--transport", "rdma"}));
    auto runs_there = [](std::string_view text) {
      return text.find("runs here; its memory follows") != std::string_view::npos;
    };
    ASSERT_OK(supervisors_.back().wait_for_err(runs_there, within(kPatience)));
  }

  // The VM passes its checks of all its memory, more than once from here on.
  void expect_passes() {
    for (int pass = 0; pass < 2; ++pass)  // the first may have begun before
      ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience), console_->log().size()));
    expect_sound();
  }
  void expect_sound() {
    auto report = read_baremetal(console_->log().lines());
    EXPECT_TRUE(report.sound()) << report.describe();
  }
  Status wait_for_status(const VmhopHost& host,
                         const std::function<bool(const nlohmann::json&)>& wanted) {
    nlohmann::json last;
    for (Deadline deadline = within(kPatience); Clock::now() < deadline;) {
      VMHOP_ASSIGN(last, host.status(kVm));
      if (wanted(last)) return ok_status();
      std::this_thread::sleep_for(200ms);
    }
    return Error("the last status was " + last.dump());
  }
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

TEST_F(HostsRelocate, AVmThereAndBackByRdmaWithItsMemoryWhole) {
  ASSERT_NO_FATAL_FAILURE(boot());
  nlohmann::json report;
  ASSERT_NO_FATAL_FAILURE(
      hop(*source_, *destination_, {"--rdma-trusted", "--transport", "rdma"}, report));
  EXPECT_EQ(report.value("transport", ""), "rdma") << report;
  EXPECT_EQ(report.value("pages_verified", -1), 0) << report;
  EXPECT_GT(report.value("registered_bytes", 0), 0) << report;
  ASSERT_NO_FATAL_FAILURE(expect_passes());

  ASSERT_NO_FATAL_FAILURE(hop(*destination_, *source_, {"--rdma-trusted", "--verify"}, report));
  EXPECT_EQ(report.value("transport", ""), "rdma") << report;  // auto takes it
  EXPECT_GE(report.value("pages_verified", 0),
            report.value("pages_faulted", 0) + report.value("pages_precached", 0))
      << report;
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

TEST_F(HostsRelocate, AVmByTcpWhenOneSideDoesNotTrustTheFabric) {
  ASSERT_NO_FATAL_FAILURE(boot());
  nlohmann::json report;
  ASSERT_NO_FATAL_FAILURE(hop(*source_, *destination_, {}, report));
  EXPECT_EQ(report.value("transport", ""), "tcp") << report;
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

TEST_F(HostsRelocate, NoVmByRdmaAloneWhenTheDestinationDoesNotTrustTheFabric) {
  ASSERT_NO_FATAL_FAILURE(boot());
  ASSERT_NO_FATAL_FAILURE(await(*destination_, {}));
  ASSERT_VALUE(Process relocating, source_->relocate(kVm, destination_->endpoint(),
                                                     {"--rdma-trusted", "--transport", "rdma"}));
  ASSERT_VALUE(Finished refused, finish(relocating, within(kPatience)));
  EXPECT_EQ(refused.status.code, kExitRefused) << refused.describe();
  EXPECT_NE(refused.err.find("--rdma-trusted"), std::string::npos) << refused.describe();
  ASSERT_NO_FATAL_FAILURE(expect_passes());  // it runs on here
}

TEST_F(HostsRelocate, AVmByTcpWhenTheCableOfTheRdmaDeviceIsOut) {
  ASSERT_NO_FATAL_FAILURE(boot());
  ASSERT_OK(source_kernel_->cut());
  nlohmann::json report;
  hop(*source_, *destination_, {"--rdma-trusted"}, report);
  ASSERT_OK(source_kernel_->join());
  EXPECT_EQ(report.value("transport", ""), "tcp") << report;
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

// The reads under way fail, and their pages come by another way.
TEST_F(HostsRelocate, AVmWhoseRdmaCableIsPulledWhileItsMemoryFollows) {
  ASSERT_NO_FATAL_FAILURE(start_slow_hop());
  ASSERT_OK(source_kernel_->cut());
  auto relocated = finish(*relocating_, within(kPatience));
  ASSERT_OK(source_kernel_->join());
  ASSERT_TRUE(relocated.ok());
  EXPECT_TRUE(relocated->status.clean()) << relocated->describe();
  EXPECT_EQ(relocated->json().value("transport", ""), "tcp") << "it was drained before the cut";
  ASSERT_NO_FATAL_FAILURE(expect_passes());
}

// What the VM has not fetched is lost with its source. It must never see anything in its place.
TEST_F(HostsRelocate, AVmThatFreezesWhenItsSourceDiesWhileItsMemoryFollows) {
  ASSERT_NO_FATAL_FAILURE(start_slow_hop());
  ASSERT_OK(source_kernel_->kill());
  EXPECT_OK(wait_for_status(*destination_, link_is_down));
  size_t seen = console_->log().size();
  EXPECT_FALSE(console_->wait_for_prefix("BM PASS", within(kSilence), seen).ok())
      << "the guest passed over memory that it cannot have";
  expect_sound();
  EXPECT_OK(wait_for_status(*destination_, [](const nlohmann::json& status) {
    return status.value("state", "") == "arriving";
  }));
  // Its supervisor can still be ended, and takes the frozen QEMU with it.
  supervisors_.back().signal(SIGTERM);
  ASSERT_VALUE(Finished ended, finish(supervisors_.back(), within(kPatience)));
  EXPECT_EQ(ended.status.signal, 0) << ended.describe();
  ASSERT_OK(source_kernel_->boot(within(kPatience)));
  slow_ = false;  // with the kernel it was in
}

// The VM is lost with its host; what the source still has of it is an operator's to drop.
TEST_F(HostsRelocate, AVmWhoseDestinationDiesLeavesItsMemoryAtTheSourceUntilDropped) {
  ASSERT_NO_FATAL_FAILURE(start_slow_hop());
  ASSERT_OK(destination_kernel_->kill());
  EXPECT_OK(wait_for_status(*source_, [](const nlohmann::json& status) {
    return status.value("state", "") == "leaving" && link_is_down(status);
  }));
  EXPECT_TRUE(relocating_->running()) << relocating_->err();
  ASSERT_VALUE(Finished dropped, source_->command({"drop", kVm, "--yes"}));
  EXPECT_TRUE(dropped.status.clean()) << dropped.describe();
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(kPatience)));
  EXPECT_EQ(relocated.status.code, kExitUnresolved) << relocated.describe();
  ASSERT_OK(destination_kernel_->boot(within(kPatience)));
}

}  // namespace
}  // namespace vmhop::lab

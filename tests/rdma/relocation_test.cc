// A whole relocation between two kernels, and what can happen to cables and hosts meanwhile.
#include "cli/exit_codes.h"
#include "tests/rdma/hosts_relocate.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

// A frozen guest is silent for at least this long; one that runs passes every second or two.
constexpr std::chrono::seconds kSilence{10};

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

// Whatever goes wrong before the commit, the VM runs on at the source, and can be relocated later.
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include "cli/exit_codes.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

class Rollback : public HopTest {
 protected:
  // The VM at the source, a destination, and a link on which each step takes its time.
  void SetUp() override;
  // Waits for the relocation to fail with this exit code.
  void expect_failure(Process& relocating, int exit_code = kExitFailed);
  // That the VM runs on, and that nothing keeps it from being relocated.
  void expect_recovery();
};

void Rollback::SetUp() {
  HopTest::SetUp();
  if (HasFatalFailure()) return;
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(slow_down());
}

void Rollback::expect_failure(Process& relocating, int exit_code) {
  ASSERT_VALUE(Finished failed, finish(relocating, within(std::chrono::seconds(60))));
  EXPECT_EQ(failed.status.shell_code(), exit_code) << failed.describe();
  EXPECT_NE(failed.err.find("vm stays here: "), std::string::npos) << failed.describe();
}

void Rollback::expect_recovery() {
  ASSERT_OK(speed_up());
  ASSERT_OK(runs_on_at_source());
  ASSERT_OK(await_again());
  ASSERT_OK(relocates_well());
}

TEST_F(Rollback, WhenTheDestinationsQemuDiesWhileItPrepares) {
  ASSERT_VALUE(Process relocating, start_relocation());
  ASSERT_OK(wait_for_event(*destination_monitor_, "MIGRATION", "setup"));
  ASSERT_OK(kill_qemu(*destination_));
  expect_failure(relocating);
  expect_recovery();
}

TEST_F(Rollback, WhenTheDestinationsQemuDiesAfterTheVmStopped) {
  ASSERT_VALUE(Process relocating, start_relocation());
  ASSERT_OK(wait_for_event(*source_monitor_, "STOP"));
  ASSERT_OK(kill_qemu(*destination_));
  expect_failure(relocating);
  expect_recovery();
}

TEST_F(Rollback, WhenTheDestinationsQemuDiesWhileItLoadsDeviceState) {
  ASSERT_VALUE(Process relocating, start_relocation());
  ASSERT_OK(wait_for_event(*destination_monitor_, "MIGRATION", "active"));
  ASSERT_OK(kill_qemu(*destination_));
  expect_failure(relocating);
  expect_recovery();
}

TEST_F(Rollback, WhenTheDestinationsSupervisorIsKilled) {
  ASSERT_VALUE(Process relocating, start_relocation({"--switch-timeout", "3"}));
  ASSERT_OK(wait_for_event(*source_monitor_, "STOP"));
  receiving_->signal(SIGKILL);
  expect_failure(relocating);
  ASSERT_OK(speed_up());
  ASSERT_OK(runs_on_at_source());
}

TEST_F(Rollback, WhenTheWholeDestinationDies) {
  ASSERT_VALUE(Process relocating, start_relocation({"--switch-timeout", "3"}));
  ASSERT_OK(wait_for_event(*source_monitor_, "STOP"));
  for (pid_t pid : processes_in({network_->host("destination").fd()}))
    ::kill(pid, SIGKILL);
  expect_failure(relocating);
  ASSERT_OK(speed_up());
  ASSERT_OK(runs_on_at_source());
}

TEST_F(Rollback, WhenTheCableIsCutAfterTheVmStopped) {
  ASSERT_VALUE(Process relocating, start_relocation({"--switch-timeout", "2"}));
  ASSERT_OK(wait_for_event(*source_monitor_, "STOP"));
  ASSERT_OK(network_->set_link("source", Link::kDown));
  expect_failure(relocating);
  ASSERT_OK(runs_on_at_source());
  ASSERT_OK(network_->set_link("source", Link::kUp));
  expect_recovery();
}

TEST_F(Rollback, WhenTheUserAborts) {
  ASSERT_VALUE(Process relocating, start_relocation());
  ASSERT_OK(wait_for_event(*source_monitor_, "STOP"));
  relocating.signal(SIGINT);
  ASSERT_VALUE(Finished aborted, finish(relocating, within(std::chrono::seconds(60))));
  EXPECT_EQ(aborted.status.shell_code(), kExitInterrupted) << aborted.describe();
  EXPECT_NE(aborted.err.find("aborted; vm runs on here"), std::string::npos) << aborted.describe();
  expect_recovery();
}

}  // namespace
}  // namespace vmhop::lab

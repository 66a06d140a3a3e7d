// What is left of a VM when its supervisor, its exporter, its pager or several of them are killed,
// and what `vmhop recover` makes of it.
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include "cli/exit_codes.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

class Recovery : public HopTest {
 protected:
  // Whole at the destination, and right.
  void expect_it_drains() {
    ASSERT_OK(speed_up());
    ASSERT_OK(runs_at_destination());
  }
  // From here on the new supervisor is the one that is asked; the former one is kept, since QEMU is
  // in its process group.
  void recover_source() {
    ASSERT_VALUE(former_, recover(*source_));
    std::swap(*former_, *running_);
  }
  void recover_destination() {
    ASSERT_VALUE(former_, recover(*destination_));
    std::swap(*former_, *receiving_);
  }
  std::optional<Process> former_;
};

TEST_F(Recovery, ASupervisorThatDiedIsReplacedAndTheVmCanBeRelocated) {
  ASSERT_OK(boot());
  ASSERT_OK(kill(*source_, &VmRecord::supervisor));
  ASSERT_VALUE(std::string orphaned, state_at(*source_));
  EXPECT_EQ(orphaned, "orphaned");
  ASSERT_OK(guest_goes_on());
  recover_source();
  ASSERT_OK(wait_for_state(*source_, "running"));
  ASSERT_OK(await());
  ASSERT_OK(relocates_well());
}

TEST_F(Recovery, ASupervisorThatIsAliveIsNotReplaced) {
  ASSERT_OK(boot());
  ASSERT_VALUE(Finished refused, source_->command({"recover", kVm}));
  EXPECT_EQ(refused.status.shell_code(), kExitRefused) << refused.describe();
  EXPECT_NE(refused.err.find("is alive"), std::string::npos) << refused.describe();
  ASSERT_VALUE(Finished unknown, source_->command({"recover", "nobody"}));
  EXPECT_EQ(unknown.status.shell_code(), kExitRefused) << unknown.describe();
}

// QEMU is stopped for a relocation that nobody can commit any more.
TEST_F(Recovery, OfTheSourceWhileItsVmIsStoppedResumesItThere) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(slow_down());
  ASSERT_VALUE(relocating_, start_relocation());
  ASSERT_OK(wait_for_event(*source_monitor_, "STOP"));
  ASSERT_OK(kill(*source_, &VmRecord::supervisor));
  ASSERT_OK(speed_up());
  recover_source();
  ASSERT_OK(wait_for_state(*source_, "running"));
  ASSERT_OK(runs_on_at_source());
  ASSERT_OK(await_again());
  ASSERT_OK(relocates_well());
}

TEST_F(Recovery, OfTheSourceAfterTheCommitServesTheMemoryOn) {
  ASSERT_OK(relocate_slowly());
  ASSERT_OK(kill(*source_, &VmRecord::supervisor));
  // QEMU is gone from here since the VM runs there; the exporter needs nobody.
  ASSERT_VALUE(Finished refused, source_->command({"recover", kVm}));
  EXPECT_EQ(refused.status.shell_code(), kExitRefused) << refused.describe();
  EXPECT_NE(refused.err.find("goes on by itself"), std::string::npos) << refused.describe();
  expect_it_drains();
  EXPECT_OK(no_process_left_at("source"));
}

TEST_F(Recovery, AnExporterThatDiesAfterTheCommitIsReplaced) {
  ASSERT_OK(relocate_slowly());
  ASSERT_OK(kill(*source_, &VmRecord::exporter));
  expect_it_drains();
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(60s)));
  EXPECT_TRUE(relocated.status.clean()) << relocated.describe();
  EXPECT_OK(nothing_left_at("source"));
}

TEST_F(Recovery, OfTheDestinationWhenOnlyItsSupervisorDied) {
  ASSERT_OK(relocate_slowly());
  ASSERT_OK(kill(*destination_, &VmRecord::supervisor));
  recover_destination();
  ASSERT_OK(wait_for_state(*destination_, "arriving"));
  expect_it_drains();
  ASSERT_OK(wait_for_state(*destination_, "running"));
}

// An out-of-memory kill of the whole group, say: the guest is frozen, and nothing turns to zeros.
TEST_F(Recovery, OfTheDestinationWhenSupervisorAndPagerDied) {
  ASSERT_OK(relocate_slowly());
  ASSERT_OK(kill(*destination_, &VmRecord::supervisor));
  ASSERT_OK(kill(*destination_, &VmRecord::pager));
  ASSERT_VALUE(std::string orphaned, state_at(*destination_));
  EXPECT_EQ(orphaned, "orphaned");
  recover_destination();
  expect_it_drains();
  ASSERT_OK(wait_for_state(*destination_, "running"));
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(60s)));
  EXPECT_TRUE(relocated.status.clean()) << relocated.describe();
}

TEST_F(Recovery, OfTheDestinationBeforeTheVmHasArrivedWaitsAnew) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(kill(*destination_, &VmRecord::supervisor));
  recover_destination();
  ASSERT_OK(wait_for_state(*destination_, "waiting"));
  ASSERT_OK(console_->attach(destination_->place().console, within(60s)));
  ASSERT_OK(relocates_well());
}

TEST_F(Recovery, OfTheDestinationTakesTheKeyThatItWasReceivedWith) {
  ASSERT_OK(relocate_slowly());
  ASSERT_OK(kill(*destination_, &VmRecord::supervisor));
  ASSERT_VALUE(former_, destination_->start({"recover", kVm}));
  ASSERT_OK(wait_for_state(*destination_, "arriving"));
  expect_it_drains();
}

}  // namespace
}  // namespace vmhop::lab

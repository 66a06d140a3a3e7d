// Once committed, the VM is the destination's: what users and guests do then, before it is drained.
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include "cli/exit_codes.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

class AfterCommit : public HopTest {
 protected:
  void SetUp() override {
    HopTest::SetUp();
    if (!HasFatalFailure()) ASSERT_OK(relocate_slowly());
  }
};

TEST_F(AfterCommit, CtrlCLeavesItDraining) {
  relocating_->signal(SIGINT);
  ASSERT_VALUE(Finished detached, finish(*relocating_, within(30s)));
  EXPECT_EQ(detached.status.shell_code(), kExitDetached) << detached.describe();
  ASSERT_OK(speed_up());
  ASSERT_OK(runs_at_destination());
  ASSERT_VALUE(Finished ended, finish(*running_, within(30s)));
  EXPECT_TRUE(ended.status.clean()) << ended.describe();
  EXPECT_OK(nothing_left_at("source"));
}

TEST_F(AfterCommit, AGuestThatPowersOffEndsItOnBothSides) {
  ASSERT_OK(console_->send("q", 1));
  ASSERT_VALUE(Finished there, finish(*receiving_, within(60s)));
  EXPECT_TRUE(there.status.clean()) << there.describe();
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(30s)));
  EXPECT_EQ(relocated.status.shell_code(), kExitEndedBeforeDrained) << relocated.describe();
  ASSERT_VALUE(Finished here, finish(*running_, within(30s)));
  EXPECT_TRUE(here.status.clean()) << here.describe();
  EXPECT_OK(nothing_left_at("source"));
  EXPECT_OK(nothing_left_at("destination"));
}

TEST_F(AfterCommit, DropGivesTheMemoryUp) {
  ASSERT_VALUE(Finished asked, source_->command({"drop", kVm}));
  EXPECT_EQ(asked.status.shell_code(), kExitRefused) << "without --yes and a terminal to ask at";
  ASSERT_VALUE(Finished dropped, source_->command({"drop", kVm, "--yes"}));
  EXPECT_TRUE(dropped.status.clean()) << dropped.describe();
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(30s)));
  EXPECT_EQ(relocated.status.shell_code(), kExitUnresolved) << relocated.describe();
  ASSERT_VALUE(Finished here, finish(*running_, within(30s)));
  EXPECT_OK(nothing_left_at("source"));
  receiving_->signal(SIGTERM);
  ASSERT_VALUE(Finished there, finish(*receiving_, within(60s)));
  EXPECT_OK(nothing_left_at("destination"));
}

TEST_F(AfterCommit, TheSourcesSupervisorMayEnd) {
  running_->signal(SIGTERM);
  ASSERT_VALUE(Finished here, finish(*running_, within(30s)));
  EXPECT_TRUE(here.status.clean()) << here.describe();
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(30s)));
  EXPECT_EQ(relocated.status.shell_code(), kExitDetached) << relocated.describe();
  EXPECT_OK(wait_for_state(*source_, "leaving"));
  ASSERT_OK(speed_up());
  ASSERT_OK(runs_at_destination());
  EXPECT_OK(no_process_left_at("source"));
  // Its records may stay, the name is free.
  BaremetalGuest another;
  another.kernel = guest_.kernel;
  EXPECT_OK(source_->run(kVm, another.qemu_command(source_->place())));
}

TEST_F(AfterCommit, TheDestinationsSupervisorEndsTheVm) {
  receiving_->signal(SIGTERM);
  ASSERT_VALUE(Finished there, finish(*receiving_, within(60s)));
  EXPECT_TRUE(there.status.clean()) << there.describe();
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(60s)));
  EXPECT_EQ(relocated.status.shell_code(), kExitEndedBeforeDrained) << relocated.describe();
  ASSERT_VALUE(Finished here, finish(*running_, within(30s)));
  EXPECT_OK(nothing_left_at("source"));
  EXPECT_OK(nothing_left_at("destination"));
}

TEST_F(AfterCommit, ACutCableOnlyDelaysIt) {
  ASSERT_OK(network_->set_link("source", Link::kDown));
  ASSERT_OK(speed_up());
  ASSERT_OK(network_->set_link("source", Link::kUp));
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(90s)));
  EXPECT_TRUE(relocated.status.clean()) << relocated.describe();
  ASSERT_OK(runs_at_destination());
}

TEST_F(AfterCommit, RelocatingFromThereIsRefusedWithTheTimeItTakes) {
  ASSERT_VALUE(Process again, destination_->relocate(kVm, source_->endpoint()));
  ASSERT_VALUE(Finished refused, finish(again, within(30s)));
  EXPECT_EQ(refused.status.shell_code(), kExitRefused) << refused.describe();
  EXPECT_NE(refused.err.find("not all of its memory"), std::string::npos) << refused.describe();
}

}  // namespace
}  // namespace vmhop::lab

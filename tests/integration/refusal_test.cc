// What does not fit is refused before the VM is stopped, with the cause, and the VM runs on.
#include <gmock/gmock.h>

#include "cli/exit_codes.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

class Refusal : public HopTest {
 protected:
  void SetUp() override {
    HopTest::SetUp();
    if (HasFatalFailure()) return;
    ASSERT_OK(boot());
  }
  // The relocation is refused with this in its message, and the VM was never stopped.
  void expect_refused(const std::string& cause, const std::vector<std::string>& options = {},
                      int exit_code = kExitRefused);
  void expect_never_stopped();
};

void Refusal::expect_refused(const std::string& cause, const std::vector<std::string>& options,
                             int exit_code) {
  ASSERT_VALUE(Finished refused, relocate(options));
  EXPECT_EQ(refused.status.shell_code(), exit_code) << refused.describe();
  EXPECT_NE(refused.err.find(cause), std::string::npos) << refused.describe();
  expect_never_stopped();
}

void Refusal::expect_never_stopped() {
  while (auto event = source_monitor_->next_event(std::chrono::milliseconds(0)))
    EXPECT_NE(event->name, "STOP");
  EXPECT_OK(runs_on_at_source());
}

TEST_F(Refusal, OfADestinationWithOtherRam) {
  BaremetalGuest other = guest_;
  other.ram_mib *= 2;
  ASSERT_OK(await(other));
  expect_refused("start both with the same -m, memory objects and page sizes");
}

TEST_F(Refusal, OfADestinationWithAnotherMachine) {
  BaremetalGuest other = guest_;
  other.machine = "q35";
  ASSERT_OK(await(other));
  expect_refused("start both with the same -machine, with its version (-M microvm)");
}

TEST_F(Refusal, OfADestinationThatAwaitsAnotherVm) {
  std::vector<std::string> qemu = guest_.qemu_command(destination_->place());
  ASSERT_VALUE(receiving_, destination_->receive("another", qemu));
  expect_refused("the destination of VM another, not of vm: receive it under its name");
}

TEST_F(Refusal, OfAnotherKey) {
  std::string key = network_->directory() + "/other-key";
  ASSERT_VALUE(Finished made, destination_->command({"keygen", key}));
  ASSERT_TRUE(made.status.clean()) << made.describe();
  ASSERT_OK(await(guest_, {"--key", key}));
  expect_refused("the two sides have different keys. Copy the key file of one to the other");
}

TEST_F(Refusal, OfAKeyThatIsNotThere) {
  std::string missing = network_->directory() + "/no-key";
  expect_refused("there is no key file " + missing + ". Make one with 'vmhop keygen'",
                 {"--key", missing});
}

TEST_F(Refusal, OfADestinationWhoseKeyIsNotThere) {
  std::vector<std::string> qemu = guest_.qemu_command(destination_->place());
  ASSERT_VALUE(receiving_, destination_->start_receiving(
                               kVm, qemu, {"--key", network_->directory() + "/no-key"}));
  ASSERT_VALUE(Finished refused, finish(*receiving_, within(std::chrono::seconds(30))));
  EXPECT_EQ(refused.status.shell_code(), kExitSupervisor) << refused.describe();
  EXPECT_NE(refused.err.find("vmhop keygen"), std::string::npos) << refused.describe();
  expect_never_stopped();
}

TEST_F(Refusal, OfAVmThatQemuCannotMigrate) {
  // Plugged in while it runs, so that nothing could be said as it was started.
  ASSERT_VALUE(auto plugged,
               source_monitor_->execute("blockdev-add", {{"driver", "vvfat"},
                                                         {"node-name", "folder"},
                                                         {"dir", network_->directory()},
                                                         {"rw", true}}));
  ASSERT_OK(await());
  expect_refused("node 'folder' does not support live migration. Unplug what blocks it");
}

TEST_F(Refusal, OfADestinationThatIsNotThere) {
  expect_refused("nobody listens at 10.77.0.2:4000. Start 'vmhop receive' there first");
}

TEST_F(Refusal, OfAHostThatCannotBeReached) {
  ASSERT_OK(network_->set_link("destination", Link::kDown));
  // The kernel may find out that nobody answers for that address before our time is up, or not.
  ASSERT_VALUE(Finished refused, relocate());
  EXPECT_THAT(refused.status.shell_code(), testing::AnyOf(kExitRefused, kExitFailed))
      << refused.describe();
  EXPECT_NE(refused.err.find("10.77.0.2"), std::string::npos) << refused.describe();
  expect_never_stopped();
}

TEST_F(Refusal, OfANameThatIsTaken) {
  std::vector<std::string> arguments = {"run", kVm, "--"};
  QemuPlace elsewhere = place_in(network_->directory());
  for (const std::string& argument : guest_.qemu_command(elsewhere))
    arguments.push_back(argument);
  ASSERT_VALUE(Finished refused, source_->command(arguments));
  EXPECT_EQ(refused.status.shell_code(), kExitSupervisor) << refused.describe();
  EXPECT_NE(refused.err.find("the name vm is taken"), std::string::npos) << refused.describe();
  expect_never_stopped();
}

TEST_F(Refusal, IsFollowedByARelocationThatFits) {
  BaremetalGuest other = guest_;
  other.ram_mib *= 2;
  ASSERT_OK(await(other));
  expect_refused("MiB");
  receiving_->signal(SIGTERM);
  ASSERT_VALUE(Finished ended, finish(*receiving_, within(std::chrono::seconds(30))));
  EXPECT_TRUE(ended.status.clean()) << ended.describe();
  ASSERT_OK(await());
  ASSERT_OK(relocates_well());
}

}  // namespace
}  // namespace vmhop::lab

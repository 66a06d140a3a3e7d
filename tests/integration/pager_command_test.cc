// `vmhop pager`: the destination's QEMU is started by hand, as libvirt would.
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include "cli/json_access.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

class PagerCommand : public HopTest {
 protected:
  void SetUp() override {
    HopTest::SetUp();
    ASSERT_VALUE(guest_.qemu, patched_qemu("7.2"));
    ASSERT_OK(boot());
  }
  // vmhop waits at the destination, for a QEMU and for a VM.
  Status start_pager();
  Status start_qemu();
  Status arrives();
  bool qemu_runs() { return qemu_->running(); }

  std::optional<Process> qemu_;
};

Status PagerCommand::start_pager() {
  VMHOP_ASSIGN(receiving_, destination_->start({"pager", kVm, "--listen", destination_->endpoint(),
                                                "--key", destination_->key()}));
  return receiving_->wait_for_err(
      [](auto text) { return text.find("waiting for a QEMU") != std::string_view::npos; },
      within(30s));
}

Status PagerCommand::start_qemu() {
  std::string directory = destination_->runtime_directory() + "/" + kVm;
  std::vector<std::string> argv = guest_.qemu_command(destination_->place());
  argv.insert(argv.end(),
              {"-object",
               fmt::format("memory-backend-postcopy,id=vmhop-ram,size={}M,pager={}/front.sock",
                           guest_.ram_mib, directory),
               "-machine", "memory-backend=vmhop-ram", "-incoming", "defer", "-S"});
  for (const char* monitor : {"qmp-1", "qmp-2"}) {
    argv.insert(argv.end(),
                {"-qmp", fmt::format("unix:{}/{}.sock,server=on,wait=off", directory, monitor)});
  }
  VMHOP_ASSIGN(qemu_, destination_->start_program(argv));
  VMHOP_TRY(console_->attach(destination_->place().console, within(30s)));
  VMHOP_ASSIGN(destination_monitor_, destination_->monitor(within(30s)));
  return ok_status();
}

Status PagerCommand::arrives() {
  VMHOP_ASSIGN(Finished finished, relocate());
  if (!finished.status.clean()) return Error(finished.describe());
  return runs_at_destination();
}

TEST_F(PagerCommand, ServesAQemuThatItLeavesAloneWhenItEnds) {
  ASSERT_OK(start_pager());
  ASSERT_OK(start_qemu());
  ASSERT_OK(arrives());
  ASSERT_VALUE(nlohmann::json status, destination_->status(kVm));
  EXPECT_EQ(text_of(status, "front"), "object");
  EXPECT_EQ(number_of(status, "ram_mib"), guest_.ram_mib);

  receiving_->signal(SIGTERM);
  ASSERT_VALUE(Finished ended, finish(*receiving_, within(30s)));
  EXPECT_TRUE(ended.status.clean()) << ended.describe();
  EXPECT_TRUE(qemu_runs());
  EXPECT_OK(guest_goes_on());
}

TEST_F(PagerCommand, StaysUntilAllOfTheMemoryIsHere) {
  ASSERT_OK(start_pager());
  ASSERT_OK(start_qemu());
  ASSERT_OK(slow_down());
  ASSERT_VALUE(Process relocating, start_relocation());
  ASSERT_OK(wait_for_state(*destination_, "arriving"));
  receiving_->signal(SIGTERM);
  ASSERT_OK(receiving_->wait_for_err(
      [](auto text) { return text.find("still arriving") != std::string_view::npos; },
      within(30s)));
  ASSERT_OK(speed_up());
  ASSERT_VALUE(Finished relocated, finish(relocating, within(60s)));
  EXPECT_TRUE(relocated.status.clean()) << relocated.describe();
  ASSERT_VALUE(Finished ended, finish(*receiving_, within(30s)));
  EXPECT_TRUE(ended.status.clean()) << ended.describe();
  EXPECT_TRUE(qemu_runs());
  EXPECT_OK(guest_goes_on());
}

TEST_F(PagerCommand, TakesTheQemuThatAnEarlierOneLeftWaiting) {
  ASSERT_OK(start_pager());
  ASSERT_OK(start_qemu());
  receiving_->signal(SIGTERM);
  ASSERT_VALUE(Finished ended, finish(*receiving_, within(30s)));
  EXPECT_TRUE(ended.status.clean()) << ended.describe();
  ASSERT_TRUE(qemu_runs());
  ASSERT_OK(start_pager());
  EXPECT_OK(arrives());
}

TEST_F(PagerCommand, RelocatesItOnFromHere) {
  ASSERT_OK(start_pager());
  ASSERT_OK(start_qemu());
  ASSERT_OK(arrives());
  ASSERT_VALUE(running_, source_->receive(kVm, guest_.qemu_command(source_->place())));
  ASSERT_OK(console_->attach(source_->place().console, within(30s)));
  ASSERT_VALUE(Process relocating, destination_->relocate(kVm, source_->endpoint()));
  ASSERT_VALUE(Finished relocated, finish(relocating, within(60s)));
  EXPECT_TRUE(relocated.status.clean()) << relocated.describe();
  EXPECT_FALSE(qemu_runs()) << "the VM is elsewhere";
  EXPECT_OK(guest_goes_on());
}

TEST_F(PagerCommand, AGuestThatPowersOffIsAnEndAndNoLoss) {
  ASSERT_OK(start_pager());
  ASSERT_OK(start_qemu());
  ASSERT_OK(slow_down());
  ASSERT_VALUE(Process relocating, start_relocation());
  ASSERT_OK(wait_for_state(*destination_, "arriving"));
  ASSERT_OK(console_->send("q", 1));
  ASSERT_OK(speed_up());
  ASSERT_VALUE(Finished ended, finish(*receiving_, within(60s)));
  EXPECT_TRUE(ended.status.clean()) << ended.describe();
  EXPECT_OK(nothing_left_at("destination"));
}

}  // namespace
}  // namespace vmhop::lab

// An operator decides where a VM runs that is in doubt.
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include <thread>

#include "backend/base/control_channel.h"
#include "cli/exit_codes.h"
#include "cli/json_access.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

class Resolve : public HopTest {
 protected:
  void expect_refused(const VmhopHost& host, const std::string& why,
                      const std::string& decision = "--run-here") {
    ASSERT_VALUE(Finished refused, host.command({"resolve", kVm, decision, "--yes"}));
    EXPECT_EQ(refused.status.shell_code(), kExitRefused) << refused.describe();
    EXPECT_NE(refused.err.find(why), std::string::npos) << refused.describe();
  }
  void stop_loaded();
  void send(const VmhopHost& host, ProcessIdentity VmRecord::*who, int signal) {
    auto record = read_vm_record(host.runtime_directory() + "/" + kVm);
    ASSERT_TRUE(record.has_value());
    ASSERT_OK(signal_process((*record).*who, signal));
  }
  void host_dies(const VmhopHost& host, ProcessIdentity VmRecord::*helper) {
    ASSERT_OK(kill(host, &VmRecord::supervisor));
    ASSERT_OK(kill(host, helper));
    ASSERT_OK(kill(host, &VmRecord::qemu));
  }
};

// The destination has loaded the VM; the source's supervisor is stopped before it can let the
// exporter commit.
void Resolve::stop_loaded() {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(slow_down());
  ASSERT_VALUE(relocating_, start_relocation());
  // With a link as slow as this device state takes a second after the stop.
  ASSERT_OK(wait_for_event(*source_monitor_, "MIGRATION", "device"));
  send(*source_, &VmRecord::supervisor, SIGSTOP);
  ASSERT_OK(speed_up());
  std::string socket = destination_->runtime_directory() + "/" + kVm + "/pager.sock";
  auto deadline = within(60s);
  for (;;) {
    ASSERT_VALUE(ControlChannel pager, ControlChannel::connect(socket));
    ASSERT_OK(pager.send({{"cmd", "status"}}));
    ASSERT_VALUE(ControlMessage status, pager.receive(10'000));
    if (text_of(status.body, "state") == "loaded") return;
    ASSERT_GT(milliseconds_until(deadline), 0) << status.body;
    std::this_thread::sleep_for(20ms);
  }
}

TEST_F(Resolve, NothingThatIsNotInDoubt) {
  ASSERT_OK(boot());
  expect_refused(*source_, "nothing is in doubt");
  ASSERT_VALUE(Finished both, source_->command({"resolve", kVm, "--run-here", "--give-back"}));
  EXPECT_EQ(both.status.shell_code(), kExitUsage);
  ASSERT_VALUE(Finished neither, source_->command({"resolve", kVm}));
  EXPECT_EQ(neither.status.shell_code(), kExitUsage);
}

TEST_F(Resolve, WhatRunsAtTheDestinationNeverRunsAtTheSource) {
  ASSERT_OK(relocate_slowly());
  expect_refused(*source_, "only the destination can run it");
  ASSERT_VALUE(Finished asked, source_->command({"resolve", kVm, "--run-here"}));
  EXPECT_EQ(asked.status.shell_code(), kExitRefused) << "without --yes and a terminal to ask at";
  ASSERT_OK(speed_up());
  ASSERT_OK(runs_at_destination());
}

// The exporter dies without having decided, and nobody is left to tell the destination.
TEST_F(Resolve, GivingBackWhatTheSourceHasResumed) {
  stop_loaded();
  if (HasFatalFailure()) return;
  ASSERT_OK(kill(*source_, &VmRecord::exporter));
  ASSERT_OK(wait_for_state(*destination_, "in doubt"));
  send(*source_, &VmRecord::supervisor, SIGCONT);
  ASSERT_OK(wait_for_state(*source_, "running"));
  ASSERT_OK(runs_on_at_source());
  ASSERT_VALUE(Finished resolved, destination_->command({"resolve", kVm, "--give-back", "--yes"}));
  EXPECT_TRUE(resolved.status.clean()) << resolved.describe();
  // Nobody is there to be told. Without that it waits for the next attempt.
  ASSERT_OK(wait_for_state(*destination_, "given back"));
  ASSERT_VALUE(Finished dropped, destination_->command({"drop", kVm, "--yes"}));
  EXPECT_TRUE(dropped.status.clean()) << dropped.describe();
  ASSERT_OK(await_again());
  ASSERT_OK(relocates_well());
}

// Right only since the source is gone for good. (So is its memory: the VM waits for it.)
TEST_F(Resolve, RunningHereWhatTheSourceCannotRunAnyMore) {
  stop_loaded();
  if (HasFatalFailure()) return;
  host_dies(*source_, &VmRecord::exporter);
  ASSERT_OK(wait_for_state(*destination_, "in doubt"));
  ASSERT_VALUE(Finished resolved, destination_->command({"resolve", kVm, "--run-here", "--yes"}));
  EXPECT_TRUE(resolved.status.clean()) << resolved.describe();
  ASSERT_OK(wait_for_state(*destination_, "arriving"));
}

// A pager that was started again has no link yet whose loss would tell of the doubt.
TEST_F(Resolve, RunningHereWhenThePagerDiedBeforeTheSource) {
  stop_loaded();
  if (HasFatalFailure()) return;
  send(*source_, &VmRecord::exporter, SIGSTOP);
  ASSERT_OK(kill(*destination_, &VmRecord::pager));
  ASSERT_OK(wait_for_state(*destination_, "in doubt"));
  host_dies(*source_, &VmRecord::exporter);
  ASSERT_VALUE(Finished resolved, destination_->command({"resolve", kVm, "--run-here", "--yes"}));
  EXPECT_TRUE(resolved.status.clean()) << resolved.describe();
  ASSERT_OK(wait_for_state(*destination_, "arriving"));
}

// The source gives up, tells the pager so, and never will again: whoever recovers the destination
// has to find that.
TEST_F(Resolve, WhatThePagerHeardAloneIsNotInDoubtWhenItIsRecovered) {
  stop_loaded();
  if (HasFatalFailure()) return;
  ASSERT_OK(kill(*destination_, &VmRecord::supervisor));
  ASSERT_OK(kill(*source_, &VmRecord::supervisor));
  ASSERT_OK(wait_for_state(*destination_, "orphaned"));  // without its pager, which has left
  ASSERT_VALUE(Process destination, recover(*destination_));
  ASSERT_OK(wait_for_state(*destination_, "waiting"));
  ASSERT_VALUE(Process source, recover(*source_));
  ASSERT_OK(wait_for_state(*source_, "running"));
  ASSERT_OK(runs_on_at_source());
}

// It is all that is left of the decision that the VM stays: nobody else would tell the destination.
TEST_F(Resolve, RecoveringTheSourceLeavesAnExporterAloneThatHasToTellTheDestination) {
  stop_loaded();
  if (HasFatalFailure()) return;
  auto left = read_vm_record(source_->runtime_directory() + "/" + kVm);
  ASSERT_TRUE(left.has_value());
  send(*destination_, &VmRecord::pager, SIGSTOP);
  ASSERT_OK(kill(*source_, &VmRecord::supervisor));
  ASSERT_VALUE(std::optional<Process> recovered, recover(*source_));
  std::swap(*recovered, *running_);
  ASSERT_OK(runs_on_at_source());
  EXPECT_TRUE(is_alive(left->exporter));
  send(*destination_, &VmRecord::pager, SIGCONT);
  ASSERT_OK(await_again());
  EXPECT_OK(relocates_well());
  EXPECT_FALSE(is_alive(left->exporter));
}

// Committed to a host that dies before it has continued the VM.
TEST_F(Resolve, RunningAtTheSourceWhatTheDestinationNeverRan) {
  stop_loaded();
  if (HasFatalFailure()) return;
  send(*destination_, &VmRecord::supervisor, SIGSTOP);
  send(*source_, &VmRecord::supervisor, SIGCONT);
  ASSERT_OK(wait_for_state(*source_, "leaving"));
  host_dies(*destination_, &VmRecord::pager);
  ASSERT_VALUE(Finished resolved, source_->command({"resolve", kVm, "--run-here", "--yes"}));
  EXPECT_TRUE(resolved.status.clean()) << resolved.describe();
  ASSERT_OK(runs_on_at_source());
  ASSERT_OK(wait_for_state(*source_, "running"));
}

// The destination comes back after the operator has decided that the source runs the VM: its copy,
// loaded and perhaps continued, is killed before it does harm.
TEST_F(Resolve, TheDestinationHearsThatTheVmWasTakenBack) {
  stop_loaded();
  if (HasFatalFailure()) return;
  send(*destination_, &VmRecord::supervisor, SIGSTOP);
  send(*source_, &VmRecord::supervisor, SIGCONT);
  ASSERT_OK(wait_for_state(*source_, "leaving"));
  ASSERT_VALUE(Finished resolved, source_->command({"resolve", kVm, "--run-here", "--yes"}));
  EXPECT_TRUE(resolved.status.clean()) << resolved.describe();
  ASSERT_OK(wait_for_state(*source_, "running"));
  send(*destination_, &VmRecord::supervisor, SIGCONT);
  ASSERT_OK(await_again());
  ASSERT_OK(runs_on_at_source());
  ASSERT_OK(relocates_well());
}

}  // namespace
}  // namespace vmhop::lab

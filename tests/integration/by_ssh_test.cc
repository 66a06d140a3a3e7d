// `vmhop relocate NAME ssh://HOST`: a VM moves to a host on which nothing was started, by an ssh
// server of the lab's own. docs/relocate-by-ssh.md, done.
#include <fcntl.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "cli/exit_codes.h"
#include "cli/receive_request.h"
#include "tests/base/core_search.h"
#include "tests/integration/hop_test.h"
#include "tests/lab/ssh_server.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

// Stands before ssh ("$@") and holds the receiver's word that it is ready back: it makes $DIR/ready
// then, and goes on when there is something to read in $DIR/go.
constexpr const char* kGate = R"(#!/bin/bash
dir=$1
shift
"$@" | while IFS= read -r line; do
  if [[ $line == *'"event":"ready"'* ]]; then
    : >"$dir/ready"
    read -r _ <"$dir/go"
  fi
  printf '%s\n' "$line"
done
exit "${PIPESTATUS[0]}"
)";

bool contains(std::string_view text, std::string_view wanted) {
  return count_of(text, wanted) > 0;
}

class BySsh : public HopTest {
 protected:
  void SetUp() override;

  // With what differs there: where QEMU has its sockets.
  std::vector<std::string> command(const std::string& ssh, std::vector<std::string> options) const;
  Result<Finished> relocate_by_ssh(std::vector<std::string> options = {});
  // Starts it, up to where the receiver is ready and nobody has heard of it yet.
  Status start_behind_gate(std::vector<std::string> options = {});
  Status open_gate() const;
  // ... and further, to where the source prepares a destination that does not answer.
  Status start_and_hold_preparation();
  Status kill_ssh();

  // What a relocation that came to nothing leaves: a VM at the source and nothing elsewhere.
  void expect_nothing_happened();
  void expect_end(int exit_code, const std::string& message);

  std::unique_ptr<SshServer> ssh_;
  std::string gate_;  // its directory
  UniqueFd go_;
};

void BySsh::SetUp() {
  HopTest::SetUp();
  if (HasFatalFailure()) return;
  ASSERT_VALUE(ssh_, SshServer::start(*destination_));
  gate_ = network_->directory() + "/gate";
  fs::create_directory(gate_);
  ASSERT_OK(replace_file(gate_ + "/script", kGate));
  ASSERT_EQ(::mkfifo((gate_ + "/go").c_str(), 0600), 0);
  go_.reset(::open((gate_ + "/go").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(go_.valid());
  ASSERT_OK(boot());
}

std::vector<std::string> BySsh::command(const std::string& ssh,
                                        std::vector<std::string> options) const {
  std::vector<std::string> all = {"relocate",
                                  kVm,
                                  ssh_->url(),
                                  "--ssh",
                                  ssh,
                                  "--map",
                                  source_->directory() + "=" + destination_->directory()};
  if (std::find(options.begin(), options.end(), "--remote-vmhop") == options.end())
    all.insert(all.end(), {"--remote-vmhop", lab_vmhop()});
  all.insert(all.end(), options.begin(), options.end());
  return all;
}

Result<Finished> BySsh::relocate_by_ssh(std::vector<std::string> options) {
  return source_->command(command(ssh_->client(), std::move(options)));
}

Status BySsh::start_behind_gate(std::vector<std::string> options) {
  std::string gated = fmt::format("bash {0}/script {0} {1}", gate_, ssh_->client());
  VMHOP_ASSIGN(relocating_, source_->start(command(gated, std::move(options))));
  auto deadline = within(60s);
  while (!fs::exists(gate_ + "/ready")) {
    if (!relocating_->running() || milliseconds_until(deadline) == 0) {
      return Error("the receiver is not ready: " + relocating_->err());
    }
    std::this_thread::sleep_for(5ms);
  }
  VMHOP_TRY(console_->attach(destination_->place().console, deadline));
  VMHOP_ASSIGN(destination_monitor_, destination_->monitor(deadline));
  return ok_status();
}

Status BySsh::open_gate() const {
  return write_all(go_.get(), std::as_bytes(std::span("\n", 1)));
}

Status BySsh::start_and_hold_preparation() {
  VMHOP_TRY(start_behind_gate());
  auto record = read_vm_record(destination_->runtime_directory() + "/" + kVm);
  if (!record) return Error("there is no record of the receiver");
  VMHOP_TRY(signal_process(record->pager, SIGSTOP));
  VMHOP_TRY(open_gate());
  return relocating_->wait_for_err([](auto text) { return contains(text, ": preparing "); },
                                   within(60s));
}

Status BySsh::kill_ssh() {
  for (pid_t pid : processes_in({network_->host("source").fd()})) {
    auto name = read_file(fmt::format("/proc/{}/comm", pid), 64);
    if (!name || *name != "ssh\n") continue;
    VMHOP_ASSIGN(ProcessIdentity ssh, identify_process(pid));
    return signal_process(ssh, SIGKILL);
  }
  return Error("there is no ssh at the source");
}

void BySsh::expect_nothing_happened() {
  EXPECT_OK(runs_on_at_source());
  // What is not the ssh server's.
  ASSERT_OK(ssh_->stop());
  EXPECT_OK(nothing_left_at("destination"));
  auto record = read_vm_record(source_->runtime_directory() + "/" + kVm);
  ASSERT_TRUE(record.has_value());
  EXPECT_TRUE(record->credentials.empty());
  EXPECT_FALSE(fs::exists(source_->runtime_directory() + "/" + kVm + "/key"));
}

void BySsh::expect_end(int exit_code, const std::string& message) {
  ASSERT_VALUE(Finished ended, finish(*relocating_, within(60s)));
  EXPECT_EQ(ended.status.shell_code(), exit_code) << ended.describe();
  EXPECT_TRUE(contains(ended.err + ended.out, message)) << ended.describe();
}

TEST_F(BySsh, AVmMovesToAHostWhereNothingWasStarted) {
  ASSERT_OK(start_behind_gate({"--json"}));
  ASSERT_OK(open_gate());
  ASSERT_VALUE(Finished moved, finish(*relocating_, within(60s)));
  ASSERT_TRUE(moved.status.clean()) << moved.describe();
  EXPECT_EQ(moved.json().value("state", ""), "drained") << moved.describe();
  // Nothing of ssh is in its way.
  ASSERT_OK(ssh_->stop());
  EXPECT_OK(runs_at_destination());
  ASSERT_VALUE(Finished ended, finish(*running_, within(60s)));
  EXPECT_TRUE(ended.status.clean()) << ended.describe();
  EXPECT_OK(nothing_left_at("source"));
  std::string there = destination_->runtime_directory() + "/" + kVm;
  EXPECT_FALSE(fs::exists(there + "/key"));
  ASSERT_VALUE(std::string log, read_file(there + "/log", 1 << 16));
  EXPECT_TRUE(contains(log, "vm is here with all of its memory")) << log;
}

// In no argument, environment, log or core dump of ours; ssh and its server have it in passing.
TEST_F(BySsh, NobodyShowsTheKey) {
  ASSERT_OK(start_behind_gate());
  std::string there = destination_->runtime_directory() + "/" + kVm;
  ASSERT_VALUE(Secret key, load_key(there + "/key"));
  std::string hex = key.to_hex();
  std::string raw(reinterpret_cast<const char*>(key.bytes().data()), Secret::kSize);
  int vmhops = 0;
  for (const char* host : {"source", "destination"}) {
    for (pid_t pid : processes_in({network_->host(host).fd()})) {
      auto name = read_file(fmt::format("/proc/{}/comm", pid), 64);
      if (!name || name->starts_with("ssh")) continue;
      vmhops += *name == "vmhop\n" ? 1 : 0;
      EXPECT_EQ(testing_support::find_in_core(pid, raw), "") << *name;
      EXPECT_EQ(testing_support::find_in_core(pid, hex), "") << *name;
    }
  }
  EXPECT_EQ(vmhops, 4) << "two supervisors, the one that ssh waits for, relocate";
  ASSERT_VALUE(std::string log, read_file(there + "/log", 1 << 16));
  EXPECT_FALSE(contains(log + relocating_->err(), hex));
}

TEST_F(BySsh, ASupervisorThatDiesThereIsReplacedWithoutBeingToldTheKey) {
  ASSERT_OK(start_behind_gate());
  ASSERT_OK(slow_down());
  ASSERT_OK(open_gate());
  ASSERT_OK(wait_for_event(*destination_monitor_, "RESUME"));
  ASSERT_OK(wait_for_state(*destination_, "arriving"));
  ASSERT_OK(kill(*destination_, &VmRecord::supervisor));
  ASSERT_VALUE(receiving_, destination_->start({"recover", kVm}));
  ASSERT_OK(receiving_->wait_for_err(
      [](auto text) { return contains(text, "going on to bring its memory here"); }, within(60s)));
  ASSERT_OK(speed_up());
  expect_end(kExitDone, "with all of its memory");
  ASSERT_OK(runs_at_destination());
  EXPECT_FALSE(fs::exists(destination_->runtime_directory() + "/" + kVm + "/key"));
}

// It is said to the source by the pager, which ends for want of it.
TEST_F(BySsh, ASupervisorThatDiesThereBeforeTheSwitchLeavesTheVmWhereItIs) {
  ASSERT_OK(start_and_hold_preparation());
  auto record = read_vm_record(destination_->runtime_directory() + "/" + kVm);
  ASSERT_TRUE(record.has_value());
  ASSERT_OK(kill(*destination_, &VmRecord::supervisor));
  ASSERT_OK(signal_process(record->pager, SIGCONT));
  expect_end(kExitFailed, "vm stays here");
  ASSERT_VALUE(Finished dropped, destination_->command({"drop", kVm, "--yes"}));
  EXPECT_TRUE(dropped.status.clean()) << dropped.describe();
  expect_nothing_happened();
}

TEST_F(BySsh, WhatQemuDislikesThereIsShown) {
  ASSERT_VALUE(Finished refused, relocate_by_ssh({"--map", guest_.kernel + "=/nowhere/kernel"}));
  EXPECT_EQ(refused.status.shell_code(), kExitFailed) << refused.describe();
  EXPECT_TRUE(contains(refused.err, "vm stays here: at 10.77.0.2: ")) << refused.describe();
  EXPECT_TRUE(contains(refused.err, "/nowhere/kernel")) << refused.describe();
  expect_nothing_happened();
}

TEST_F(BySsh, AHostThatLetsNobodyInIsRefused) {
  ASSERT_VALUE(Finished refused, source_->command(command(ssh_->stranger(), {})));
  EXPECT_EQ(refused.status.shell_code(), kExitRefused) << refused.describe();
  EXPECT_TRUE(contains(refused.err, "10.77.0.2 cannot be reached by ssh")) << refused.describe();
  EXPECT_TRUE(contains(refused.err, "Permission denied")) << refused.describe();
  expect_nothing_happened();
}

TEST_F(BySsh, AHostWithoutVmhopIsRefused) {
  ASSERT_VALUE(Finished refused, relocate_by_ssh({"--remote-vmhop", "/nowhere/vmhop"}));
  EXPECT_EQ(refused.status.shell_code(), kExitRefused) << refused.describe();
  EXPECT_TRUE(contains(refused.err, "say where it is: --remote-vmhop")) << refused.describe();
  expect_nothing_happened();
}

TEST_F(BySsh, ANameThatIsTakenThereIsRefused) {
  ASSERT_OK(await());
  ASSERT_VALUE(Finished refused, relocate_by_ssh());
  EXPECT_EQ(refused.status.shell_code(), kExitRefused) << refused.describe();
  EXPECT_TRUE(contains(refused.err, "at 10.77.0.2: the name vm is taken")) << refused.describe();
  EXPECT_OK(runs_on_at_source());
  EXPECT_OK(wait_for_state(*destination_, "waiting"));  // the one that was there
}

TEST_F(BySsh, AConnectionThatIsLostBeforeTheSwitchLeavesTheVmWhereItIs) {
  ASSERT_OK(start_and_hold_preparation());
  ASSERT_OK(kill_ssh());
  expect_end(kExitFailed, "vm stays here: the ssh connection to 10.77.0.2 was lost");
  expect_nothing_happened();
}

TEST_F(BySsh, AConnectionThatIsLostAfterTheSwitchIsNotNeeded) {
  ASSERT_OK(start_behind_gate());
  ASSERT_OK(slow_down());
  ASSERT_OK(open_gate());
  // Its state is there: nobody at the destination can take this for an end before the switch.
  ASSERT_OK(wait_for_event(*destination_monitor_, "MIGRATION", "completed"));
  ASSERT_OK(ssh_->stop());
  ASSERT_OK(wait_for_event(*destination_monitor_, "RESUME"));
  ASSERT_OK(speed_up());
  expect_end(kExitDone, "with all of its memory");
  EXPECT_OK(runs_at_destination());
}

TEST_F(BySsh, CtrlCBeforeTheSwitchLeavesTheVmWhereItIs) {
  ASSERT_OK(start_and_hold_preparation());
  relocating_->signal(SIGINT);
  expect_end(kExitInterrupted, "aborted; vm runs on here");
  expect_nothing_happened();
}

// The end of a connection may never be heard of.
TEST_F(BySsh, AReceiverThatHearsNothingEnds) {
  ReceiveRequest request;
  request.vm = kVm;
  request.qemu = guest_.qemu_command(destination_->place());
  request.lease = 500ms;
  std::string file = network_->directory() + "/request";
  UniqueFd written(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_VALUE(Secret key, Secret::random());
  ASSERT_OK(send_receive_request(written.get(), request, key));
  std::string script = R"({ cat "$1"; sleep 60; } | "$2" internal-receive)";
  ASSERT_VALUE(receiving_,
               destination_->start_program({"sh", "-c", script, "sh", file, lab_vmhop()}));
  ASSERT_OK(receiving_->wait_for_out([](auto text) { return contains(text, "nothing was heard"); },
                                     within(60s)));
  receiving_.reset();
  ASSERT_OK(ssh_->stop());
  EXPECT_OK(nothing_left_at("destination"));
}

}  // namespace
}  // namespace vmhop::lab

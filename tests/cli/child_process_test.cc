#include "cli/child_process.h"

#include <gtest/gtest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/socket.h>
#include <unistd.h>

namespace vmhop {
namespace {

using std::chrono::milliseconds;

ChildSpec shell(const std::string& script) {
  ChildSpec spec;
  spec.program = "/bin/sh";
  spec.argv = {"sh", "-c", script};
  return spec;
}

TEST(ChildProcess, ReportsItsExitCode) {
  auto child = ChildProcess::spawn(shell("exit 7")).value();
  ExitStatus status = child->wait(milliseconds(20'000)).value();
  EXPECT_EQ(status.shell_code(), 7);
  EXPECT_EQ(child->poll()->shell_code(), 7);
}

TEST(ChildProcess, ReportsItsSignal) {
  auto child = ChildProcess::spawn(shell("kill -KILL $$")).value();
  EXPECT_EQ(child->wait(milliseconds(20'000)).value().shell_code(), 137);
}

TEST(ChildProcess, IsGoneOnceKilledAndReaped) {
  auto child = ChildProcess::spawn(shell("exec sleep 1000")).value();
  ProcessIdentity identity = child->identity();
  EXPECT_TRUE(is_alive(identity));
  EXPECT_EQ(child->kill_and_reap().signal, SIGKILL);
  EXPECT_FALSE(is_alive(identity));
}

TEST(ChildProcess, SaysWhatCannotBeStarted) {
  ChildSpec spec;
  spec.program = "/nonexistent/qemu";
  spec.argv = {"qemu"};
  auto child = ChildProcess::spawn(spec);
  ASSERT_FALSE(child.ok());
  EXPECT_NE(child.error().message().find("/nonexistent/qemu"), std::string::npos);
}

TEST(ChildProcess, InheritsOnlyWhatItIsGiven) {
  auto kept = create_memfd("kept", 4096).value();
  auto other = create_memfd("other", 4096).value();
  ChildSpec spec = shell(fmt::format("test -e /proc/self/fd/{} && ! test -e /proc/self/fd/{}",
                                     kept.get(), other.get()));
  spec.inherited = {kept.get()};
  EXPECT_TRUE(ChildProcess::spawn(spec).value()->wait(milliseconds(20'000)).value().clean());
}

TEST(ChildProcess, ADetachedOneHasItsChannelAsDescriptorThreeAndNothingElse) {
  auto ends = socket_pair(SOCK_SEQPACKET).value();
  auto stray = create_memfd("stray", 4096).value();
  ChildSpec spec =
      shell(fmt::format("test -S /proc/$$/fd/3 && ! test -e /proc/$$/fd/{} && "
                        "test \"$(readlink /proc/$$/fd/0)\" = /dev/null",
                        stray.get()));
  spec.kind = ChildSpec::Kind::kDetached;
  spec.as_fd_3 = ends.second.get();
  EXPECT_TRUE(ChildProcess::spawn(spec).value()->wait(milliseconds(20'000)).value().clean());
}

TEST(ChildProcess, AForegroundOneDoesNotHearTheTerminalsSignals) {
  ChildSpec spec = shell("kill -INT $$; kill -HUP $$; exit 5");
  EXPECT_EQ(ChildProcess::spawn(spec).value()->wait(milliseconds(20'000)).value().shell_code(), 5);
}

TEST(ChildProcess, GetsItsEnvironment) {
  ChildSpec spec = shell("test \"$VMHOP_TEST_VALUE\" = 'a b'");
  spec.environment = {{"VMHOP_TEST_VALUE", "a b"}};
  EXPECT_TRUE(ChildProcess::spawn(spec).value()->wait(milliseconds(20'000)).value().clean());
}

TEST(ProcessIdentity, NamesOneProcessOnly) {
  auto self = identify_process(::getpid()).value();
  EXPECT_TRUE(is_alive(self));
  EXPECT_FALSE(is_alive({self.pid, self.start_time + 1}));
  EXPECT_FALSE(is_alive({}));
}

}  // namespace
}  // namespace vmhop

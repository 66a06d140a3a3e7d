// What a source makes of what ssh, and whatever it starts, says. ssh is a shell here.
#include "cli/remote_receiver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

namespace vmhop {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class RemoteReceiverTest : public testing::Test {
 protected:
  void start(const std::string& script) {
    ReceiveRequest request;
    request.vm = "web";
    request.qemu = {"qemu"};
    auto started = RemoteReceiver::start({"/bin/sh", "-c", script}, "host-b", request,
                                         Secret::random().value());
    ASSERT_TRUE(started.ok()) << started.error().message();
    receiver_ = std::move(*started);
  }
  void wait_until(const std::function<bool()>& reached) {
    auto deadline = RemoteReceiver::Clock::now() + std::chrono::seconds(20);
    for (receiver_->update(); !reached(); receiver_->update()) {
      ASSERT_LT(RemoteReceiver::Clock::now(), deadline);
      (void)wait_fd(receiver_->fd(), POLLIN, 1000);
    }
  }
  Error why_gone(const std::string& script) {
    start(script);
    wait_until([this] { return receiver_->gone(); });
    return receiver_->why_gone();
  }

  std::unique_ptr<RemoteReceiver> receiver_;
};

TEST_F(RemoteReceiverTest, HearsThatItIsReadyAmongWhatALoginShellSays) {
  start(
      "echo Welcome; echo '{\"a\":1}'; echo '{\"event\":\"ready\",\"port\":4455,"
      "\"address\":\"10.0.0.2\"}'; cat >/dev/null");
  wait_until([this] { return receiver_->ready().has_value(); });
  EXPECT_EQ(receiver_->ready()->port, 4455);
  EXPECT_EQ(receiver_->ready()->address, "10.0.0.2");
  EXPECT_FALSE(receiver_->gone());
  receiver_->let_go();
  wait_until([this] { return receiver_->gone(); });
}

TEST_F(RemoteReceiverTest, PassesOnWhyItFailedAndWhatItsQemuWrote) {
  Error error = why_gone(
      "printf '%s\\n' '{\"event\":\"failed\",\"kind\":\"refused\",\"message\":\"no such thing\","
      "\"log\":\"qemu: first\\nqemu: second\\n\"}'; exit 4");
  EXPECT_EQ(error.kind(), ErrorKind::kRefused);
  EXPECT_EQ(error.message(), "at host-b: no such thing\n  qemu: first\n  qemu: second");
}

TEST_F(RemoteReceiverTest, NamesTheRemedyWhenSshFails) {
  Error error = why_gone("echo 'Permission denied (publickey).' >&2; exit 255");
  EXPECT_EQ(error.kind(), ErrorKind::kRefused);
  EXPECT_THAT(error.message(),
              AllOf(HasSubstr("host-b cannot be reached by ssh"), HasSubstr("Permission denied"),
                    HasSubstr("`ssh -o BatchMode=yes` has to")));
}

TEST_F(RemoteReceiverTest, NamesTheRemedyWhereVmhopIsMissing) {
  Error error = why_gone("/nowhere/vmhop internal-receive");
  EXPECT_EQ(error.kind(), ErrorKind::kRefused);
  EXPECT_THAT(error.message(), HasSubstr("--remote-vmhop"));
}

TEST_F(RemoteReceiverTest, NamesTheRemedyWhereVmhopIsOlder) {
  Error error = why_gone("echo 'vmhop: The following argument was not expected' >&2; exit 2");
  EXPECT_EQ(error.kind(), ErrorKind::kRefused);
  EXPECT_THAT(error.message(), HasSubstr("Install the version that is here"));
}

TEST_F(RemoteReceiverTest, TellsALostConnectionFromOneThatNeverWas) {
  start("echo '{\"event\":\"ready\",\"port\":1}'; kill -9 $$");
  wait_until([this] { return receiver_->gone(); });
  EXPECT_THAT(receiver_->why_gone().message(), HasSubstr("the ssh connection to host-b was lost"));
}

TEST_F(RemoteReceiverTest, IsNotHeldUpByAnSshThatReadsNothing) {
  start("exec sleep 60");
  EXPECT_FALSE(receiver_->gone());
  receiver_.reset();
}

}  // namespace
}  // namespace vmhop

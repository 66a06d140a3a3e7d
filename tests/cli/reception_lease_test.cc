// A reception on behalf of somebody who may go away.
#include "tests/cli/reception_fixture.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::Contains;
using Peer = ScriptedHelper::Peer;

TEST_F(ReceptionTest, ALostLeaseEndsItWhileNobodyIsConnected) {
  host_.pagers.push_back([&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    mailbox_->put(Request::kLeaseLost, "nobody waits any more");
    EXPECT_EQ(peer.next(), "");
  });
  ReceptionOutcome outcome = receive();
  EXPECT_EQ(outcome.end, ReceptionEnd::kTerminated);
  EXPECT_EQ(outcome.message, "nobody waits any more");
  EXPECT_THAT(host_.notes(), Contains("end qemu"));
}

TEST_F(ReceptionTest, ALostLeaseEndsItBeforeTheVmIsStopped) {
  host_.pagers.push_back([&](Peer& peer) {
    greet(peer);
    mailbox_->put(Request::kLeaseLost, "nobody waits any more");
    EXPECT_EQ(peer.next(), "load_failed");
    peer.say({{"event", "aborted"}, {"message", "as you like"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kTerminated);
  EXPECT_THAT(host_.notes(), Contains("end qemu"));
}

TEST_F(ReceptionTest, ALostLeaseMeansNothingOnceTheVmIsOnItsWay) {
  host_.on_event = [&](const std::string& event) {
    if (event == "read_point") mailbox_->put(Request::kLeaseLost, "nobody waits any more");
  };
  host_.pagers.push_back([&](Peer& peer) {
    greet(peer);
    peer.say({{"event", "read_point"}});
    qemu_.migration_event("completed");
    EXPECT_EQ(peer.next(), "loaded");
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
    peer.say({{"event", "drained"}, {"report", json::object()}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
}

}  // namespace
}  // namespace vmhop

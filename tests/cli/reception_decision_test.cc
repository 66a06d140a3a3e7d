// An operator decides at the destination, where a VM is loaded and its source cannot be reached.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/reception_fixture.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::Not;
using Peer = ScriptedHelper::Peer;

class ReceptionDecisionTest : public ReceptionTest {
 protected:
  void load_in_doubt(Peer& peer, Request decision) {
    load(peer);
    peer.say({{"event", "in_doubt"}, {"message", "the link is down"}});
    mailbox_->put(decision, "an operator decided so");
  }
  static void drain(Peer& peer) {
    peer.say({{"event", "drained"}, {"report", json::object()}});
    peer.next();
  }
};

// It is the pager that commits: it keeps the state that a successor finds.
TEST_F(ReceptionDecisionTest, ThatItRunsHereIsThePagersToCarryOut) {
  host_.pagers.push_back([&](Peer& peer) {
    load_in_doubt(peer, Request::kRunHere);
    EXPECT_EQ(peer.next(), "commit");
    EXPECT_EQ(qemu_.count("cont"), 0U);
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
    drain(peer);
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 1U);
}

TEST_F(ReceptionDecisionTest, ThatItRunsHereOutlivesThePagerThatWasToldOfIt) {
  host_.pagers.push_back([&](Peer& peer) {
    load_in_doubt(peer, Request::kRunHere);
    EXPECT_EQ(peer.next(), "commit");
  });
  host_.pagers.push_back([&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    EXPECT_EQ(peer.next(), "loaded");
    EXPECT_EQ(peer.next(), "commit");
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
    drain(peer);
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
}

// The source ran it after all, and has said so.
TEST_F(ReceptionDecisionTest, ThatItRunsHereIsUndoneWhenTheSourceHasIt) {
  host_.pagers.push_back([&](Peer& peer) {
    load_in_doubt(peer, Request::kRunHere);
    EXPECT_EQ(peer.next(), "commit");
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
    peer.say({{"event", "aborted"}, {"message", "the source runs it"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kAborted);
  EXPECT_THAT(host_.notes(), Contains("end qemu"));
}

TEST_F(ReceptionDecisionTest, ThatItIsTheSourcesKillsItBeforeTheSourceHears) {
  host_.pagers.push_back([&](Peer& peer) {
    load_in_doubt(peer, Request::kGiveBack);
    EXPECT_EQ(peer.next(), "returned");
    EXPECT_THAT(host_.notes(), Contains("end qemu"));
    peer.say({{"event", "released"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kAborted);
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(ReceptionDecisionTest, ThatItIsTheSourcesOutlivesThePager) {
  host_.pagers.push_back([&](Peer& peer) {
    load_in_doubt(peer, Request::kGiveBack);
    EXPECT_EQ(peer.next(), "returned");
  });
  host_.pagers.push_back([&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    EXPECT_EQ(peer.next(), "returned");
    peer.say({{"event", "released"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kAborted);
}

// The source's word came first.
TEST_F(ReceptionDecisionTest, IsVoidOnceTheVmRunsHere) {
  std::string told;
  host_.pagers.push_back([&](Peer& peer) {
    run(peer);
    mailbox_->put(Request::kGiveBack, "decided");
    mailbox_->put(Request::kRunHere, "decided");
    mailbox_->put(Request::kTerminate, "enough");
    told = peer.next();
    peer.say({{"event", "released"}});
  });
  qemu_.on("quit", [&](const json&) {
    host_.exit_qemu({0, 0});
    return std::nullopt;
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kVmEnded);
  EXPECT_EQ(told, "ended") << "neither returned nor commit";
  EXPECT_THAT(host_.notes(), Not(Contains("end qemu")));
}

}  // namespace
}  // namespace vmhop

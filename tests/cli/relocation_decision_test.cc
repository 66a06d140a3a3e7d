// An operator decides at the source, when the VM is given away and nothing is heard of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/relocation_fixture.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::Not;
using Peer = ScriptedHelper::Peer;

class RelocationDecisionTest : public RelocationTest {
 protected:
  // Committed, and the exporter has read that the VM is to run here.
  void commit_and_take_back(Peer& peer) {
    commit(peer, host_);
    wait_for_note("freeze");
    mailbox_->put(Request::kRunHere, "decided");
    EXPECT_EQ(peer.next(), "revoke");
  }
  void expect_taken_back(const RelocationOutcome& outcome) {
    EXPECT_EQ(outcome.end, RelocationEnd::kStaysHere) << outcome.message;
    EXPECT_EQ(qemu_.run_state(), "running");
    EXPECT_THAT(host_.notes(), Not(Contains("end qemu")));
    EXPECT_THAT(host_.notes(), Contains("forget commit"));
  }
};

TEST_F(RelocationDecisionTest, BeforeTheCommitThereIsNothingToDecide) {
  host_.exporter = [&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    mailbox_->put(Request::kRunHere, "decided");
    mailbox_->put(Request::kGiveBack, "decided");
    wait_for_events("not_resolved", 2);
    peer.say({{"event", "failed"}, {"kind", "failed"}, {"message", "no route"}});
  };
  expect_runs_here(relocate());
}

// The exporter had told so before it read the decision.
TEST_F(RelocationDecisionTest, ThatItRunsHereIsVoidOnceItRunsThere) {
  host_.exporter = [&](Peer& peer) {
    commit_and_take_back(peer);
    peer.say({{"event", "running"}, {"blackout_ns", 1}});
    wait_for_events("not_resolved", 1);
    peer.say({{"event", "drained"}, {"report", json::object()}});
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(RelocationDecisionTest, IsNotToldToTheNextExporterOnceItIsVoid) {
  host_.exporter = [&](Peer& peer) {
    commit_and_take_back(peer);
    peer.say({{"event", "running"}, {"blackout_ns", 1}});
  };
  host_.next_exporter = [&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    mailbox_->put(Request::kTerminate, "enough");
    EXPECT_EQ(peer.next(), "");
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kLeft);
  EXPECT_THAT(host_.events(), Contains("not_resolved"));
}

TEST_F(RelocationDecisionTest, OutlivesTheExporterThatWasToldOfIt) {
  host_.exporter = [&](Peer& peer) { commit_and_take_back(peer); };
  host_.next_exporter = [&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    EXPECT_EQ(peer.next(), "revoke");
    peer.say({{"event", "returned"}, {"message", "an operator decided that it runs here"}});
    EXPECT_EQ(peer.next(), "") << "it stays to tell the destination";
  };
  expect_taken_back(relocate());
}

TEST_F(RelocationDecisionTest, IsObeyedWhenNoExporterIsLeftToRecordIt) {
  host_.exporter = [&](Peer& peer) { commit_and_take_back(peer); };
  expect_taken_back(relocate());
  EXPECT_THAT(host_.events(), Contains("unresolved"));
}

TEST_F(RelocationDecisionTest, EndsARelocationThatIsUnresolved) {
  host_.exporter = [&](Peer& peer) { commit(peer, host_); };
  host_.on_event = [&](const std::string& event) {
    if (event == "unresolved") mailbox_->put(Request::kRunHere, "decided");
  };
  expect_taken_back(relocate());
}

// The first may be on disk already, and the destination told.
TEST_F(RelocationDecisionTest, IsNotFollowedByTheContrary) {
  host_.exporter = [&](Peer& peer) {
    commit_and_take_back(peer);
    mailbox_->put(Request::kGiveBack, "decided");
    wait_for_events("not_resolved", 1);
    peer.say({{"event", "returned"}, {"message", "an operator decided that it runs here"}});
    EXPECT_EQ(peer.next(), "");
  };
  expect_taken_back(relocate());
}

TEST_F(RelocationDecisionTest, ThatItIsTheOthersCannotBeTakenBack) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    wait_for_note("freeze");
    mailbox_->put(Request::kGiveBack, "decided");
    wait_for_note("end qemu");
    mailbox_->put(Request::kRunHere, "decided");
    wait_for_events("not_resolved", 1);
    mailbox_->put(Request::kTerminate, "enough");
    EXPECT_EQ(peer.next(), "") << "told nothing, only left";
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kLeft);
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

}  // namespace
}  // namespace vmhop

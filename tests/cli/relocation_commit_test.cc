// Whose the VM is, once a commit may have been made.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/relocation_fixture.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using Peer = ScriptedHelper::Peer;
using std::chrono::milliseconds;

TEST_F(RelocationTest, AnExporterThatDiesWithoutARecordHasNotCommitted) {
  host_.exporter = [](Peer& peer) {
    peer.next();
    peer.say({{"event", "prepared"}});
    peer.next();
    EXPECT_EQ(peer.next(), "source_completed");
  };
  RelocationOutcome outcome = relocate();
  expect_runs_here(outcome);
  EXPECT_EQ(qemu_.count("cont"), 1U);
}

TEST_F(RelocationTest, AnExporterThatDiesWithARecordHasCommittedAndTheVmNeverRunsHereAgain) {
  host_.exporter = [&](Peer& peer) {
    peer.next();
    peer.say({{"event", "prepared"}});
    peer.next();
    EXPECT_EQ(peer.next(), "source_completed");
    host_.recorded = true;
  };
  host_.on_event = [&](const std::string& event) {
    if (event == "unresolved") mailbox_->put(Request::kDrop, "dropped");
  };
  RelocationOutcome outcome = relocate();
  EXPECT_EQ(outcome.end, RelocationEnd::kDropped);
  EXPECT_THAT(host_.events(), testing::Contains("unresolved"));
  // Those that were started in its place died at once, too.
  std::vector<std::string> notes = host_.notes();
  EXPECT_GE(std::count(notes.begin(), notes.end(), "start exporter"), 3);
  EXPECT_EQ(notes.back(), "end qemu");
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(RelocationTest, AnExporterThatDiesAfterTheCommitIsReplaced) {
  host_.exporter = [&](Peer& peer) { commit(peer, host_); };
  json start;
  host_.next_exporter = [&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    start = peer.last();
    EXPECT_EQ(peer.fd_count(), 2U) << "the key, and the memory of one region";
    peer.say({{"event", "running"}});
    peer.say({{"event", "drained"}, {"report", json::object()}});
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kDrained);
  ASSERT_TRUE(start.contains("committed")) << start;
  EXPECT_EQ(start["committed"]["relocation"], std::string(32, '0'));
  EXPECT_THAT(host_.notes(), ElementsAre("block discards", "start exporter", "freeze",
                                         "start exporter", "end qemu"));
}

TEST_F(RelocationTest, AnExporterThatDiesWhenTheMemoryIsReleasedIsNotReplaced) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    host_.outcome = CommitOutcome::kReleased;
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kDrained);
  EXPECT_THAT(host_.notes(), ElementsAre("block discards", "start exporter", "freeze", "end qemu"));
}

TEST_F(RelocationTest, AnExporterThatDiesBeforeItTellsThatTheVmIsHandedBack) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    host_.outcome = CommitOutcome::kReturned;
  };
  RelocationOutcome outcome = relocate();
  EXPECT_EQ(outcome.end, RelocationEnd::kStaysHere);
  EXPECT_EQ(qemu_.run_state(), "running");
  EXPECT_THAT(host_.notes(), ElementsAre("block discards", "start exporter", "freeze",
                                         "forget commit", "thaw", "allow discards"));
}

// Rather no VM than two: a record that is not there proves nothing.
TEST_F(RelocationTest, AnExporterThatIsGoneWithItsRecordLeavesTheVmStopped) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    host_.recorded = false;
  };
  host_.on_event = [&](const std::string& event) {
    if (event == "unresolved") mailbox_->put(Request::kDrop, "dropped");
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kDropped);
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(RelocationTest, AnOperatorMayDecideThatItRunsHere) {
  std::string told;
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    wait_for_note("freeze");
    mailbox_->put(Request::kRunHere, "decided");
    told = peer.next();
    peer.say({{"event", "returned"}, {"message", "an operator decided that it runs here"}});
    EXPECT_EQ(peer.next(), "") << "it stays to tell the destination, as long as it likes";
  };
  RelocationOutcome outcome = relocate();
  EXPECT_EQ(told, "revoke");
  EXPECT_EQ(outcome.end, RelocationEnd::kStaysHere);
  EXPECT_THAT(outcome.message, HasSubstr("an operator decided"));
  EXPECT_EQ(qemu_.run_state(), "running");
}

TEST_F(RelocationTest, WhatRunsThereCannotBeDecidedToRunHere) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    peer.say({{"event", "running"}, {"blackout_ns", 1}});
    peer.next();
  };
  host_.on_event = [&](const std::string& event) {
    if (event == "running") mailbox_->put(Request::kRunHere, "decided");
    if (event == "not_resolved") mailbox_->put(Request::kTerminate, "enough");
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kLeft);
  EXPECT_THAT(host_.events(), testing::Contains("not_resolved"));
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(RelocationTest, AnOperatorMayDecideThatItNeverRunsHereAgain) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    wait_for_note("freeze");
    mailbox_->put(Request::kGiveBack, "decided");
    peer.next();
  };
  host_.on_event = [&](const std::string& event) {
    if (event == "resolved") mailbox_->put(Request::kTerminate, "enough");
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kLeft);
  EXPECT_THAT(host_.notes(), testing::Contains("end qemu"));
}

TEST_F(RelocationTest, ASupervisorGoesOnWhereAnotherHadCommitted) {
  host_.recorded = true;
  json start;
  host_.exporter = [&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    start = peer.last();
    peer.say({{"event", "running"}});
    peer.say({{"event", "drained"}, {"report", json::object()}});
  };
  SwitchRecord record;
  record.machine = "pc-q35-7.2";
  record.qemu_version = "7.2.22";
  Relocation relocation(host_, *mailbox_, std::move(request_), limits_);
  EXPECT_EQ(relocation.go_on(record).end, RelocationEnd::kDrained);
  EXPECT_EQ(start["machine"], "pc-q35-7.2");
  EXPECT_TRUE(start.contains("committed")) << start;
  EXPECT_THAT(host_.notes(), ElementsAre("freeze", "start exporter", "end qemu"));
}

TEST_F(RelocationTest, ACommitThatIsUnderWayMakesAnAbortVoid) {
  host_.exporter = [&](Peer& peer) {
    peer.next();
    peer.say({{"event", "prepared"}});
    peer.next();
    EXPECT_EQ(peer.next(), "source_completed");
    mailbox_->put(Request::kAbort, "aborted by the user");
    EXPECT_EQ(peer.next(), "abort");
    host_.recorded = true;
    peer.say({{"event", "committed"}});
    peer.say({{"event", "running"}, {"blackout_ns", 1}});
    peer.say({{"event", "drained"}, {"report", json::object()}});
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(RelocationTest, AnExporterThatDoesNotAnswerTheAbortIsKilledBeforeTheVmIsResumed) {
  limits_.settle = milliseconds(30);
  request_.switch_timeout = milliseconds(100);
  host_.exporter = [](Peer& peer) {
    peer.next();
    peer.say({{"event", "prepared"}});
    while (!peer.next().empty()) {
    }
  };
  RelocationOutcome outcome = relocate();
  expect_runs_here(outcome);
  EXPECT_EQ(outcome.kind, ErrorKind::kTimedOut);
  EXPECT_EQ(qemu_.count("cont"), 1U);
}

TEST_F(RelocationTest, AVmThatIsHandedBackRunsHereAgain) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    peer.say({{"event", "returned"}, {"message", "a disk is locked"}});
  };
  RelocationOutcome outcome = relocate();
  EXPECT_EQ(outcome.end, RelocationEnd::kStaysHere);
  EXPECT_THAT(outcome.message, HasSubstr("a disk is locked"));
  EXPECT_THAT(host_.notes(), ElementsAre("block discards", "start exporter", "freeze",
                                         "forget commit", "thaw", "allow discards"));
  EXPECT_EQ(qemu_.run_state(), "running");
  EXPECT_EQ(qemu_.count("announce-self"), 1U);
}

TEST_F(RelocationTest, AVmThatEndsAtTheDestinationIsNotDrained) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    peer.say({{"event", "running"}, {"blackout_ns", 1}});
    peer.say({{"event", "ended"}, {"reason", "guest-shutdown"}});
  };
  RelocationOutcome outcome = relocate();
  EXPECT_EQ(outcome.end, RelocationEnd::kEndedThere);
  EXPECT_EQ(outcome.message, "guest-shutdown");
}

TEST_F(RelocationTest, ASupervisorThatIsEndedAfterTheCommitLeavesTheExporterAlone) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    peer.say({{"event", "running"}, {"blackout_ns", 1}});
    mailbox_->put(Request::kTerminate, "SIGTERM");
    EXPECT_EQ(peer.next(), "");  // told nothing, only left
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kLeft);
  EXPECT_THAT(host_.notes(), ElementsAre("block discards", "start exporter", "freeze", "end qemu"));
}

TEST_F(RelocationTest, ASupervisorThatIsEndedBeforeTheVmRunsThereLeavesQemuFrozen) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    mailbox_->put(Request::kTerminate, "SIGTERM");
    EXPECT_EQ(peer.next(), "");  // told nothing, only left
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kLeft);
  EXPECT_THAT(host_.notes(), ElementsAre("block discards", "start exporter", "freeze"));
}

TEST_F(RelocationTest, DroppingIsTheExportersToDo) {
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    peer.say({{"event", "running"}, {"blackout_ns", 1}});
    mailbox_->put(Request::kDrop, "dropped");
    EXPECT_EQ(peer.next(), "drop");
    peer.say({{"event", "dropped"}});
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kDropped);
}

}  // namespace
}  // namespace vmhop

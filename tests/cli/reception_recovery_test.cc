// A reception in place of one whose supervisor died.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/reception_fixture.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::Contains;
using Peer = ScriptedHelper::Peer;

class ReceptionRecoveryTest : public ReceptionTest {
 protected:
  ReceptionOutcome go_on(DestinationState state, bool arrived) {
    FoundVm found;
    found.record.machine = "pc-q35-7.2";
    found.record.qemu_version = "7.2.22";
    found.record.arrived = arrived;
    found.regions = {{"vmhop-ram", 8192, 4096, 0x1000, 0, 0}};
    found.page_map = UniqueFd(::dup(0));
    found.state = state;
    limits_.monitor = std::chrono::milliseconds(20);
    Reception reception(host_, *mailbox_, limits_);
    return reception.go_on(std::move(found));
  }
  static void expect_start(Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    EXPECT_EQ(peer.last().value("page_map", false), true);
    EXPECT_EQ(peer.last().value("machine", ""), "pc-q35-7.2");
    peer.say({{"event", "listening"}, {"port", 4000}});
  }
  static void drain(Peer& peer) {
    peer.say({{"event", "drained"}, {"report", json::object()}});
    peer.next();
  }
};

TEST_F(ReceptionRecoveryTest, AVmInDoubtIsContinuedOnceTheSourceSaysSo) {
  qemu_.set_run_state("paused");
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    EXPECT_EQ(peer.next(), "loaded");
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
    drain(peer);
  });
  EXPECT_EQ(go_on(DestinationState::kLoaded, false).end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 1U);
}

TEST_F(ReceptionRecoveryTest, ACommitThatComesBeforeQemuAnswersIsObeyedThen) {
  qemu_.set_run_state("paused");
  host_.monitor_silent = true;
  host_.on_event = [&](const std::string& event) {
    if (event == "progress") host_.monitor_silent = false;
  };
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    EXPECT_EQ(peer.next(), "loaded");
    peer.say({{"event", "commit"}, {"was_running", true}});
    peer.say({{"event", "progress"}});
    EXPECT_EQ(peer.next(), "running");
    drain(peer);
  });
  EXPECT_EQ(go_on(DestinationState::kLoaded, false).end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 1U);
}

TEST_F(ReceptionRecoveryTest, ACommittedVmThatWasNeverContinuedIs) {
  qemu_.set_run_state("paused");
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
    drain(peer);
  });
  EXPECT_EQ(go_on(DestinationState::kCommitted, false).end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 1U);
}

TEST_F(ReceptionRecoveryTest, AVmThatRunsIsLeftRunning) {
  qemu_.set_run_state("running");
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    EXPECT_EQ(peer.next(), "running");
    drain(peer);
  });
  EXPECT_EQ(go_on(DestinationState::kCommitted, false).end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

// Its supervisor died before the pager's word that all is here.
TEST_F(ReceptionRecoveryTest, AVmThatIsDrainedAlreadyIsNotKilled) {
  qemu_.set_run_state("running");
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    drain(peer);
  });
  EXPECT_EQ(go_on(DestinationState::kDrained, true).end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.run_state(), "running");
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(ReceptionRecoveryTest, AVmThatItsUserPausedStaysPaused) {
  qemu_.set_run_state("paused");
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    EXPECT_EQ(peer.next(), "running");
    drain(peer);
  });
  EXPECT_EQ(go_on(DestinationState::kCommitted, true).end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

// It waits for pages with its big lock held: only the pager can help it.
TEST_F(ReceptionRecoveryTest, ThePagerServesAQemuThatDoesNotAnswerYet) {
  qemu_.set_run_state("running");
  host_.monitor_silent = true;
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    peer.say({{"event", "commit"}, {"was_running", true}});
    host_.monitor_silent = false;
    EXPECT_EQ(peer.next(), "running");
    drain(peer);
  });
  EXPECT_EQ(go_on(DestinationState::kCommitted, false).end, ReceptionEnd::kDrained);
}

TEST_F(ReceptionRecoveryTest, AskedToEndBeforeQemuAnswersItLeavesEverythingAsItIs) {
  host_.monitor_silent = true;
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    mailbox_->put(Request::kTerminate, "SIGTERM");
    EXPECT_EQ(peer.next(), "");
  });
  EXPECT_EQ(go_on(DestinationState::kCommitted, true).end, ReceptionEnd::kLeft);
  EXPECT_TRUE(host_.notes().empty());
}

// Whether it had run is not known, so it must not be handed back.
TEST_F(ReceptionRecoveryTest, ACommittedVmThatEndsBeforeItAnswersIsNotHandedBack) {
  host_.monitor_silent = true;
  std::string told;
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    host_.exit_qemu({0, 11});
    told = peer.next();
    peer.say({{"event", "lost"}});
  });
  EXPECT_EQ(go_on(DestinationState::kCommitted, false).end, ReceptionEnd::kVmEnded);
  EXPECT_EQ(told, "lost");
}

TEST_F(ReceptionRecoveryTest, AnOperatorMayGiveAVmInDoubtBack) {
  host_.monitor_silent = true;
  std::string told;
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    EXPECT_EQ(peer.next(), "loaded");
    mailbox_->put(Request::kGiveBack, "decided");
    told = peer.next();
    peer.say({{"event", "released"}});
  });
  EXPECT_EQ(go_on(DestinationState::kLoaded, false).end, ReceptionEnd::kAborted);
  EXPECT_EQ(told, "returned");
  EXPECT_THAT(host_.notes(), Contains("end qemu"));
}

TEST_F(ReceptionRecoveryTest, AnOperatorMayRunAVmInDoubtBeforeQemuAnswers) {
  qemu_.set_run_state("paused");
  host_.monitor_silent = true;
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    EXPECT_EQ(peer.next(), "loaded");
    mailbox_->put(Request::kRunHere, "decided");
    EXPECT_EQ(peer.next(), "commit");
    peer.say({{"event", "commit"}, {"was_running", true}});
    host_.monitor_silent = false;
    EXPECT_EQ(peer.next(), "running");
    drain(peer);
  });
  EXPECT_EQ(go_on(DestinationState::kLoaded, false).end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 1U);
}

TEST_F(ReceptionRecoveryTest, AnOperatorMayRunAVmInDoubt) {
  qemu_.set_run_state("paused");
  host_.pagers.push_back([&](Peer& peer) {
    expect_start(peer);
    EXPECT_EQ(peer.next(), "loaded");
    mailbox_->put(Request::kRunHere, "decided");
    EXPECT_EQ(peer.next(), "commit");
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
    drain(peer);
  });
  EXPECT_EQ(go_on(DestinationState::kLoaded, false).end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 1U);
}

}  // namespace
}  // namespace vmhop

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/cli/reception_fixture.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using Peer = ScriptedHelper::Peer;
using std::chrono::milliseconds;

// QEMU has loaded the VM in the same moment, and the pager cannot be told any more.
TEST_F(ReceptionTest, AnAbortIsHeardAlthoughThePagerHasLeft) {
  std::promise<void> left;
  host_.on_event = [&](const std::string& event) {
    if (event == "link") left.get_future().wait();
  };
  host_.pagers.push_back([&](Peer& peer) {
    greet(peer);
    peer.say({{"event", "link"}, {"up", false}});
    peer.say({{"event", "aborted"}, {"message", "the source took it back"}});
    ::shutdown(peer.fd(), SHUT_RDWR);
    qemu_.migration_event("completed");
    left.set_value();
  });
  ReceptionOutcome outcome = receive();
  EXPECT_EQ(outcome.end, ReceptionEnd::kAborted);
  EXPECT_THAT(outcome.message, HasSubstr("took it back"));
  EXPECT_EQ(host_.pagers_started, 1U);
}

// A person's "cont", or libvirt's.
TEST_F(ReceptionTest, AVmThatSomebodyContinuesTooEarlyIsKilledAndHandedBack) {
  std::string answer;
  host_.pagers.push_back([&](Peer& peer) {
    load(peer);
    qemu_.event("RESUME");
    answer = peer.next();
    peer.say({{"event", "released"}});
  });
  ReceptionOutcome outcome = receive();
  EXPECT_EQ(outcome.end, ReceptionEnd::kAborted);
  EXPECT_EQ(answer, "returned");
  EXPECT_THAT(outcome.message, HasSubstr("somebody continued the VM"));
  EXPECT_THAT(host_.notes(), Contains("end qemu"));
}

TEST_F(ReceptionTest, SomebodyElsesVmEndsAtTheSecondSignalOnly) {
  host_.owned = false;
  host_.pagers.push_back([&](Peer& peer) {
    run(peer);
    mailbox_->put(Request::kTerminate, "first");
    peer.say({{"event", "drained"}, {"report", json::object()}});
    peer.next();
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("quit"), 0U);
}

TEST_F(ReceptionTest, AVmArrivesRunsAndIsDrained) {
  json start;
  json running;
  host_.pagers.push_back([&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    start = peer.last();
    EXPECT_EQ(peer.fd_count(), 4U);
    peer.say({{"event", "connected"}, {"peer", "there"}});
    peer.say({{"event", "prepare"}});
    EXPECT_EQ(peer.next(), "prepared");
    EXPECT_EQ(qemu_.count("migrate-incoming"), 1U);
    qemu_.migration_event("completed");
    EXPECT_EQ(peer.next(), "loaded");
    EXPECT_EQ(qemu_.count("cont"), 0U);
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
    running = peer.last();
    peer.say({{"event", "drained"}, {"report", json::object()}});
    peer.next();
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
  EXPECT_EQ(start.at("page_map"), false);
  EXPECT_EQ(start.at("machine"), "pc-q35-7.2");
  EXPECT_EQ(start.at("regions").at(0).at("address"), 0x1000);
  EXPECT_EQ(running.at("resumed_ns"), 1700000000000005000);
  EXPECT_EQ(qemu_.count("announce-self"), 1U);
  EXPECT_THAT(host_.notes(), ElementsAre("let front go"));
}

TEST_F(ReceptionTest, AVmThatWasPausedStaysPaused) {
  host_.pagers.push_back([&](Peer& peer) {
    load(peer);
    peer.say({{"event", "commit"}, {"was_running", false}});
    EXPECT_EQ(peer.next(), "running");
    peer.say({{"event", "drained"}, {"report", json::object()}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

// It may have seen them: what it would write from now on might be wrong too.
TEST_F(ReceptionTest, AVmThatMayHaveSeenWrongBytesIsPausedOnce) {
  std::promise<void> stopped;
  qemu_.on("stop", [&](const json&) {
    stopped.set_value();  // a second time is an exception
    return json::object();
  });
  std::vector<std::string> events;
  host_.on_event = [&](const std::string& event) { events.push_back(event); };
  host_.pagers.push_back([&](Peer& peer) {
    run(peer);
    for (const char* which : {"one", "two"}) {
      peer.say({{"event", "wrong_page"}, {"installed", true}, {"message", which}});
    }
    stopped.get_future().wait();
    peer.say({{"event", "drained"}, {"report", json::object()}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("stop"), 1U);
  EXPECT_EQ(std::count(events.begin(), events.end(), "notice"), 2);
}

TEST_F(ReceptionTest, AVmThatWaitsForAPageThatIsWrongIsNotPaused) {
  host_.pagers.push_back([&](Peer& peer) {
    run(peer);
    peer.say({{"event", "wrong_page"}, {"installed", false}, {"message", "it waits"}});
    peer.say({{"event", "drained"}, {"report", json::object()}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("stop"), 0U);
}

TEST_F(ReceptionTest, AHostThatCannotPrepareSaysWhy) {
  host_.fails_to_start = true;
  ReceptionOutcome outcome = receive();
  EXPECT_EQ(outcome.end, ReceptionEnd::kFailed);
  EXPECT_EQ(outcome.message, "no kernel support");
}

TEST_F(ReceptionTest, AnAbortedAttemptEndsItsQemu) {
  host_.pagers.push_back([&](Peer& peer) {
    greet(peer);
    peer.say({{"event", "aborted"}, {"message", "the source changed its mind"}});
  });
  ReceptionOutcome outcome = receive();
  EXPECT_EQ(outcome.end, ReceptionEnd::kAborted);
  EXPECT_EQ(outcome.message, "the source changed its mind");
  EXPECT_THAT(host_.notes(), ElementsAre("end qemu"));
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(ReceptionTest, AQemuThatCannotListenIsRefused) {
  qemu_.on("migrate-incoming", [](const json&) { return qmp_error("no such socket"); });
  host_.pagers.push_back([&](Peer& peer) {
    peer.next();
    peer.say({{"event", "connected"}, {"peer", "there"}});
    peer.say({{"event", "prepare"}});
    EXPECT_EQ(peer.next(), "refuse");
    EXPECT_THAT(peer.last().at("message"), HasSubstr("no such socket"));
    peer.say({{"event", "aborted"}, {"message", "refused"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kAborted);
}

TEST_F(ReceptionTest, AQemuThatDiesWhileLoadingFailsTheLoad) {
  host_.pagers.push_back([&](Peer& peer) {
    greet(peer);
    host_.exit_qemu({1, 0});
    EXPECT_EQ(peer.next(), "load_failed");
    peer.say({{"event", "aborted"}, {"message", "it could not be loaded"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kAborted);
}

TEST_F(ReceptionTest, AQemuThatDiesLoadedGivesTheVmBack) {
  host_.pagers.push_back([&](Peer& peer) {
    load(peer);
    host_.exit_qemu({0, 11});
    EXPECT_EQ(peer.next(), "returned");
    peer.say({{"event", "released"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kAborted);
}

TEST_F(ReceptionTest, AVmThatCannotBeContinuedIsGivenBackAfterItsQemuIsKilled) {
  qemu_.on("cont", [](const json&) { return qmp_error("the disk is locked"); });
  host_.pagers.push_back([&](Peer& peer) {
    load(peer);
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "returned");
    EXPECT_THAT(peer.last().at("message"), HasSubstr("the disk is locked"));
    EXPECT_THAT(host_.notes(), ElementsAre("end qemu"));
    peer.say({{"event", "released"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kAborted);
}

TEST_F(ReceptionTest, ContWithoutEffectIsGivenBack) {
  qemu_.on("cont", [](const json&) { return json::object(); });
  host_.pagers.push_back([&](Peer& peer) {
    load(peer);
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "returned");
    peer.say({{"event", "released"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kAborted);
}

TEST_F(ReceptionTest, ALoadedVmWaitsForTheDecisionWhateverHappensToTheLink) {
  host_.pagers.push_back([&](Peer& peer) {
    load(peer);
    peer.say({{"event", "in_doubt"}, {"message", "the link is down"}});
    peer.say({{"event", "connected"}, {"peer", "there"}});
    EXPECT_EQ(qemu_.count("cont"), 0U);
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
    peer.say({{"event", "drained"}, {"report", json::object()}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
}

TEST_F(ReceptionTest, APagerThatDiesWhileWaitingEndsTheAttempt) {
  host_.pagers.push_back([&](Peer& peer) { peer.next(); });
  EXPECT_EQ(receive().end, ReceptionEnd::kAborted);
  EXPECT_EQ(host_.pagers_started, 1U);
}

TEST_F(ReceptionTest, APagerThatDiesLoadedIsStartedAgainOnItsPageMap) {
  UniqueFd map = create_memfd("page map", 4096).value();
  host_.pagers.push_back([&](Peer& peer) {
    peer.next();
    std::array<int, 1> fds{map.get()};
    peer.say({{"event", "listening"}, {"port", 4000}}, fds);
    peer.say({{"event", "connected"}, {"peer", "there"}});
    peer.say({{"event", "prepare"}});
    peer.next();
    qemu_.migration_event("completed");
    EXPECT_EQ(peer.next(), "loaded");
  });
  host_.pagers.push_back([&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    EXPECT_EQ(peer.last().at("page_map"), true);
    EXPECT_EQ(peer.fd_count(), 5U);
    EXPECT_EQ(peer.next(), "loaded");
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
    peer.say({{"event", "drained"}, {"report", json::object()}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
}

TEST_F(ReceptionTest, APagerThatDiesWhileTheVmRunsIsToldThatItRuns) {
  host_.pagers.push_back([&](Peer& peer) { run(peer); });
  host_.pagers.push_back([&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    EXPECT_EQ(peer.next(), "running");
    peer.say({{"event", "drained"}, {"report", json::object()}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kDrained);
  EXPECT_EQ(qemu_.count("cont"), 1U);
}

TEST_F(ReceptionTest, AGuestThatPowersOffEarlyHasEnded) {
  host_.pagers.push_back([&](Peer& peer) {
    run(peer);
    host_.exit_qemu({0, 0});
    EXPECT_EQ(peer.next(), "ended");
    peer.say({{"event", "released"}});
  });
  ReceptionOutcome outcome = receive();
  EXPECT_EQ(outcome.end, ReceptionEnd::kVmEnded);
  EXPECT_EQ(outcome.exit.shell_code(), 0);
}

TEST_F(ReceptionTest, ACrashIsNotAnEnd) {
  host_.pagers.push_back([&](Peer& peer) {
    run(peer);
    host_.exit_qemu({0, 11});
    EXPECT_EQ(peer.next(), "lost");
    peer.say({{"event", "lost"}});
  });
  ReceptionOutcome outcome = receive();
  EXPECT_EQ(outcome.end, ReceptionEnd::kVmEnded);
  EXPECT_EQ(outcome.exit.shell_code(), 139);
}

TEST_F(ReceptionTest, AQemuThatIsQuitWhileWaitingEndsTheReception) {
  host_.pagers.push_back([&](Peer& peer) {
    peer.next();
    host_.exit_qemu({0, 0});
    EXPECT_EQ(peer.next(), "");
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kVmEnded);
}

TEST_F(ReceptionTest, EndedWhileWaiting) {
  host_.pagers.push_back([&](Peer& peer) {
    peer.next();
    mailbox_->put(Request::kTerminate, "SIGTERM");
    EXPECT_EQ(peer.next(), "");
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kTerminated);
  EXPECT_THAT(host_.notes(), ElementsAre("end qemu"));
}

TEST_F(ReceptionTest, EndedWhileLoadingTellsTheSource) {
  host_.pagers.push_back([&](Peer& peer) {
    greet(peer);
    mailbox_->put(Request::kTerminate, "SIGTERM");
    EXPECT_EQ(peer.next(), "load_failed");
    peer.say({{"event", "aborted"}, {"message", "SIGTERM"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kTerminated);
}

TEST_F(ReceptionTest, EndedWhileLoadedGivesTheVmBackFromADeadQemu) {
  host_.pagers.push_back([&](Peer& peer) {
    load(peer);
    mailbox_->put(Request::kTerminate, "SIGTERM");
    EXPECT_EQ(peer.next(), "returned");
    EXPECT_THAT(host_.notes(), ElementsAre("end qemu"));
    peer.say({{"event", "released"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kTerminated);
}

TEST_F(ReceptionTest, EndedWhileRunningQuitsTheVm) {
  qemu_.on("quit", [&](const json&) {
    host_.exit_qemu({0, 0});
    return std::nullopt;
  });
  host_.pagers.push_back([&](Peer& peer) {
    run(peer);
    mailbox_->put(Request::kTerminate, "SIGTERM");
    EXPECT_EQ(peer.next(), "ended");
    peer.say({{"event", "released"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kVmEnded);
}

TEST_F(ReceptionTest, AQemuThatDoesNotQuitIsKilled) {
  limits_.quit = milliseconds(30);
  qemu_.on("quit", [](const json&) { return std::nullopt; });
  host_.pagers.push_back([&](Peer& peer) {
    run(peer);
    mailbox_->put(Request::kTerminate, "SIGTERM");
    EXPECT_EQ(peer.next(), "lost");
    peer.say({{"event", "lost"}});
  });
  EXPECT_EQ(receive().end, ReceptionEnd::kVmEnded);
  EXPECT_THAT(host_.notes(), Contains("end qemu"));
}

}  // namespace
}  // namespace vmhop

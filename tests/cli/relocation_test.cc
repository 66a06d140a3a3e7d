// From the order to relocate to the commit, and back when that fails.
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

TEST_F(RelocationTest, MovesARunningVmAndEndsDrained) {
  json start;
  json read_point;
  host_.exporter = [&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    start = peer.last();
    EXPECT_EQ(peer.fd_count(), 2U);
    EXPECT_EQ(qemu_.count("migrate"), 0U);
    peer.say({{"event", "prepared"}});
    EXPECT_EQ(peer.next(), "read_point");
    read_point = peer.last();
    EXPECT_EQ(peer.next(), "source_completed");
    EXPECT_EQ(qemu_.run_state(), "postmigrate");
    peer.say({{"event", "committed"}});
    peer.say({{"event", "running"}, {"blackout_ns", 7}});
    peer.say({{"event", "drained"}, {"report", {{"pages_faulted", 3}}}});
  };
  RelocationOutcome outcome = relocate();
  EXPECT_EQ(outcome.end, RelocationEnd::kDrained);
  EXPECT_EQ(outcome.report.at("pages_faulted"), 3);
  EXPECT_EQ(start.at("machine"), "pc-q35-7.2");
  EXPECT_EQ(start.at("qemu_version"), "7.2.22");
  EXPECT_EQ(read_point.at("was_running"), true);
  EXPECT_EQ(read_point.at("stopped_ns"), 1700000000000005000);
  EXPECT_THAT(host_.notes(), ElementsAre("block discards", "start exporter", "freeze", "end qemu"));
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(RelocationTest, TellsTheUserOfWrongPages) {
  std::vector<std::string> notices;
  host_.on_notice = [&](const std::string& message) { notices.push_back(message); };
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    peer.say({{"event", "running"}, {"blackout_ns", 7}});
    peer.say({{"event", "error"}, {"message", "2 pages came with other bytes"}});
    peer.say({{"event", "drained"}, {"report", json::object()}});
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kDrained);
  EXPECT_THAT(notices, ElementsAre("2 pages came with other bytes"));
}

TEST_F(RelocationTest, TellsTheDestinationThatAPausedVmWasPaused) {
  qemu_.set_run_state("paused");
  json read_point;
  host_.exporter = [&](Peer& peer) {
    peer.next();
    peer.say({{"event", "prepared"}});
    peer.next();
    read_point = peer.last();
    peer.next();
    peer.say({{"event", "committed"}});
    peer.say({{"event", "drained"}, {"report", json::object()}});
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kDrained);
  EXPECT_EQ(read_point.at("was_running"), false);
}

struct RefusalCase {
  const char* name;
  const char* command;
  json answer;
  const char* message;
};

void PrintTo(const RefusalCase& param, std::ostream* out) {
  *out << param.name;
}

class RefusedBeforehand : public RelocationTest, public testing::WithParamInterface<RefusalCase> {};

TEST_P(RefusedBeforehand, WithoutTouchingTheVm) {
  qemu_.on(GetParam().command, [](const json&) { return GetParam().answer; });
  RelocationOutcome outcome = relocate();
  EXPECT_EQ(outcome.end, RelocationEnd::kStaysHere);
  EXPECT_EQ(outcome.kind, ErrorKind::kRefused);
  EXPECT_THAT(outcome.message, HasSubstr(GetParam().message));
  EXPECT_TRUE(host_.notes().empty());
  EXPECT_EQ(qemu_.count("migrate"), 0U);
  EXPECT_EQ(qemu_.count("migrate-set-capabilities"), 0U);
}

json memdev(const char* id, int size, bool share) {
  return {{"id", id}, {"size", size}, {"share", share}};
}

INSTANTIATE_TEST_SUITE_P(
    Relocation, RefusedBeforehand,
    testing::Values(
        RefusalCase{"no_ignore_shared", "query-migrate-capabilities",
                    json::array({{{"capability", "events"}, {"state", false}}}),
                    "lacks the migration capability"},
        RefusalCase{"blocked",
                    "query-migrate",
                    {{"status", "none"}, {"blocked-reasons", {"a VFIO device"}}},
                    "a VFIO device"},
        RefusalCase{
            "migrating", "query-migrate", {{"status", "active"}}, "a migration that vmhop did not"},
        RefusalCase{"not_shared", "query-memdev", json::array({memdev("vmhop-ram", 8192, false)}),
                    "share=off"},
        RefusalCase{"plugged_memory", "query-memdev",
                    json::array({memdev("vmhop-ram", 8192, true), memdev("dimm", 4096, true)}),
                    "dimm"},
        RefusalCase{"other_size", "query-memdev", json::array({memdev("vmhop-ram", 4096, true)}),
                    "4096 bytes"},
        RefusalCase{"missing_memory", "query-memdev", json::array(), "0 of the VM's 1"},
        RefusalCase{"crashed",
                    "query-status",
                    {{"status", "guest-panicked"}, {"running", false}},
                    "guest-panicked"}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST_F(RelocationTest, ARefusingDestinationLeavesTheVmUnstopped) {
  host_.exporter = [](Peer& peer) {
    peer.next();
    peer.say({{"event", "failed"}, {"kind", "refused"}, {"message", "other RAM size"}});
  };
  RelocationOutcome outcome = relocate();
  expect_runs_here(outcome);
  EXPECT_EQ(outcome.kind, ErrorKind::kRefused);
  EXPECT_EQ(outcome.message, "other RAM size");
  EXPECT_EQ(qemu_.count("migrate"), 0U);
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(RelocationTest, AnExporterThatDiesWhilePreparingLeavesTheVmUnstopped) {
  host_.exporter = [](Peer& peer) { peer.next(); };
  RelocationOutcome outcome = relocate();
  expect_runs_here(outcome);
  EXPECT_EQ(qemu_.count("migrate"), 0U);
}

TEST(PrepareTimeout, GrowsWithTheRam) {
  RegionRecord small{"a", 512 << 20, 4096};
  RegionRecord large{"b", uint64_t{512} << 30, 4096};
  EXPECT_EQ(default_prepare_timeout({small}), std::chrono::seconds(30));
  EXPECT_EQ(default_prepare_timeout({small, large}), std::chrono::seconds(30 + 512));
}

TEST_F(RelocationTest, ADestinationThatIsNotReadyInTimeIsAborted) {
  request_.prepare_timeout = milliseconds(30);
  host_.exporter = [](Peer& peer) {
    peer.next();
    EXPECT_EQ(peer.next(), "abort");
    peer.say({{"event", "aborted"}});
  };
  RelocationOutcome outcome = relocate();
  expect_runs_here(outcome);
  EXPECT_EQ(outcome.kind, ErrorKind::kTimedOut);
}

TEST_F(RelocationTest, OneThatIsHeldStopsTheVmWhenItMayGo) {
  request_.hold = true;
  size_t migrations_while_held = 1;
  host_.on_event = [&](const std::string& event) {
    if (event != "held") return;
    migrations_while_held = qemu_.count("migrate");
    mailbox_->put(Request::kGo, "");
  };
  host_.exporter = [&](Peer& peer) {
    commit(peer, host_);
    peer.say({{"event", "running"}, {"blackout_ns", 7}});
    peer.say({{"event", "drained"}, {"report", json::object()}});
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kDrained);
  EXPECT_EQ(migrations_while_held, 0U);
}

TEST_F(RelocationTest, OneThatIsHeldEndsWithItsExporter) {
  request_.hold = true;
  host_.exporter = [](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    peer.say({{"event", "prepared"}});
    peer.say({{"event", "failed"}, {"kind", "closed"}, {"message", "the destination is gone"}});
  };
  RelocationOutcome outcome = relocate();
  expect_runs_here(outcome);
  EXPECT_EQ(outcome.message, "the destination is gone");
  EXPECT_EQ(qemu_.count("migrate"), 0U);
}

TEST_F(RelocationTest, TheUserAbortsWhilePreparing) {
  host_.exporter = [&](Peer& peer) {
    peer.next();
    mailbox_->put(Request::kAbort, "aborted by the user");
    EXPECT_EQ(peer.next(), "abort");
    peer.say({{"event", "aborted"}});
  };
  RelocationOutcome outcome = relocate();
  expect_runs_here(outcome);
  EXPECT_EQ(outcome.kind, ErrorKind::kAborted);
}

TEST_F(RelocationTest, MemoryThatWasDiscardedThoughThatWasBlockedIsNotRead) {
  host_.discards_go_on = true;
  host_.exporter = [](Peer& peer) {
    peer.next();
    peer.say({{"event", "prepared"}});
    EXPECT_EQ(peer.next(), "abort");
    peer.say({{"event", "aborted"}});
  };
  RelocationOutcome outcome = relocate();
  expect_runs_here(outcome);
  EXPECT_NE(outcome.message.find("RAM was discarded"), std::string::npos) << outcome.message;
}

TEST_F(RelocationTest, AFailureAfterTheStopResumesTheVm) {
  qemu_.on("migrate-continue", [&](const json&) { return json::object(); });
  host_.exporter = [](Peer& peer) {
    peer.next();
    peer.say({{"event", "prepared"}});
    EXPECT_EQ(peer.next(), "read_point");
    peer.say({{"event", "failed"}, {"kind", "failed"}, {"message", "the destination died"}});
  };
  RelocationOutcome outcome = relocate();
  expect_runs_here(outcome);
  EXPECT_EQ(outcome.message, "the destination died");
  EXPECT_EQ(qemu_.count("migrate_cancel"), 1U);
  EXPECT_EQ(qemu_.count("announce-self"), 1U);
}

TEST_F(RelocationTest, AFailureLeavesAPausedVmPaused) {
  qemu_.set_run_state("paused");
  qemu_.on("migrate-continue", [&](const json&) { return json::object(); });
  host_.exporter = [](Peer& peer) {
    peer.next();
    peer.say({{"event", "prepared"}});
    peer.next();
    peer.say({{"event", "failed"}, {"kind", "closed"}, {"message", "the destination died"}});
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kStaysHere);
  EXPECT_EQ(qemu_.run_state(), "postmigrate");
  EXPECT_EQ(qemu_.count("cont"), 0U);
  EXPECT_EQ(qemu_.count("announce-self"), 0U);
}

TEST_F(RelocationTest, AMigrationThatFailsByItselfAbortsTheExporterBeforeAnythingElse) {
  qemu_.on("migrate-continue", [&](const json&) {
    qemu_.set_run_state("running");  // QEMU resumes by itself
    qemu_.migration_event("failed");
    return json::object();
  });
  host_.exporter = [](Peer& peer) {
    peer.next();
    peer.say({{"event", "prepared"}});
    EXPECT_EQ(peer.next(), "read_point");
    EXPECT_EQ(peer.next(), "abort");
    peer.say({{"event", "aborted"}});
  };
  RelocationOutcome outcome = relocate();
  expect_runs_here(outcome);
  EXPECT_EQ(qemu_.count("cont"), 0U);
}

TEST_F(RelocationTest, AQemuThatExitsWhilePreparingIsNotRelocated) {
  host_.exporter = [&](Peer& peer) {
    peer.next();
    host_.qemu_exited = true;
    qemu_.exit();
    EXPECT_EQ(peer.next(), "abort");
    peer.say({{"event", "aborted"}});
  };
  EXPECT_EQ(relocate().end, RelocationEnd::kVmGone);
}

TEST_F(RelocationTest, TheUsersMigrationSettingsAreBackAfterARollback) {
  std::vector<json> changes;
  qemu_.on("migrate-set-parameters", [&](const json& arguments) {
    changes.push_back(arguments);
    return json::object();
  });
  qemu_.on("migrate-continue", [&](const json&) { return json::object(); });
  host_.exporter = [](Peer& peer) {
    peer.next();
    peer.say({{"event", "prepared"}});
    peer.next();
    peer.say({{"event", "failed"}, {"kind", "failed"}, {"message", "no"}});
  };
  expect_runs_here(relocate());
  ASSERT_EQ(changes.size(), 2U);
  EXPECT_GT(changes[0].at("max-bandwidth"), 1'000'000'000'000);
  EXPECT_EQ(changes[1].at("max-bandwidth"), 134217728);
  EXPECT_EQ(qemu_.count("migrate-set-capabilities"), 2U);
}

}  // namespace
}  // namespace vmhop

#include "cli/relocation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "tests/cli/scripted_helper.h"
#include "tests/cli/scripted_qemu.h"
#include "tests/cli/temporary_directory.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using Peer = ScriptedHelper::Peer;
using std::chrono::milliseconds;

class FakeHost : public RelocationHost {
 public:
  FakeHost(std::string directory, ScriptedQemu& qemu)
      : directory_(std::move(directory)), qemu_(qemu) {}

  std::string vm_name() const override { return "vm"; }
  std::string runtime_directory() const override { return directory_; }
  std::vector<RegionRecord> regions() const override { return {{"vmhop-ram", 8192, 4096}}; }
  std::vector<int> memory_fds() const override { return {0}; }
  Result<QmpClient> connect_qmp() override {
    if (qemu_exited) return Error("QEMU has exited", ErrorKind::kClosed);
    return QmpClient::connect(qemu_.path(), QmpClient::Clock::now() + std::chrono::seconds(5));
  }
  Result<Helper> start_exporter() override {
    note("start exporter");
    return ScriptedHelper::start(exporter);
  }
  Status block_discards() override {
    note("block discards");
    return ok_status();
  }
  void allow_discards() override { note("allow discards"); }
  // Each time one more was done, or none ever.
  uint64_t discards() const override { return discards_go_on ? ++discards_ : discards_; }
  bool discards_go_on = false;
  void freeze_qemu() override { note("freeze"); }
  void thaw_qemu() override { note("thaw"); }
  void end_qemu() override { note("end qemu"); }
  bool qemu_has_exited() override { return qemu_exited; }
  bool commit_recorded() const override { return recorded; }
  Status forget_commit() override {
    note("forget commit");
    recorded = false;
    return ok_status();
  }
  void report(const json& event) override {
    std::lock_guard lock(mutex_);
    events_.push_back(event.value("event", ""));
    if (on_event) on_event(event.value("event", ""));
  }

  std::vector<std::string> notes() const {
    std::lock_guard lock(mutex_);
    return notes_;
  }
  std::vector<std::string> events() const {
    std::lock_guard lock(mutex_);
    return events_;
  }

  ScriptedHelper::Script exporter;
  std::atomic<bool> recorded{false};
  std::atomic<bool> qemu_exited{false};
  std::function<void(const std::string& event)> on_event;

 private:
  void note(const std::string& text) {
    std::lock_guard lock(mutex_);
    notes_.push_back(text);
  }

  mutable uint64_t discards_ = 0;
  std::string directory_;
  ScriptedQemu& qemu_;
  mutable std::mutex mutex_;  // guards the two lists
  std::vector<std::string> notes_;
  std::vector<std::string> events_;
};

class RelocationTest : public testing::Test {
 protected:
  RelocationOutcome relocate() {
    Relocation relocation(host_, *mailbox_, request_, limits_);
    return relocation.run();
  }

  // The exporter's part up to "committed", as it should go.
  static void commit(Peer& peer, FakeHost& host) {
    EXPECT_EQ(peer.next(), "start");
    peer.say({{"event", "prepared"}});
    EXPECT_EQ(peer.next(), "read_point");
    EXPECT_EQ(peer.next(), "source_completed");
    host.recorded = true;
    peer.say({{"event", "committed"}});
  }

  void expect_runs_here(const RelocationOutcome& outcome) {
    EXPECT_EQ(outcome.end, RelocationEnd::kStaysHere) << outcome.message;
    EXPECT_EQ(qemu_.run_state(), "running");
    EXPECT_EQ(host_.notes().back(), "allow discards");
    EXPECT_THAT(host_.notes(), testing::Not(testing::Contains("freeze")));
  }

  TemporaryDirectory directory_;
  ScriptedQemu qemu_{directory_.path() + "/qmp"};
  FakeHost host_{directory_.path(), qemu_};
  std::unique_ptr<Mailbox> mailbox_ = Mailbox::create().value();
  RelocationRequest request_{
      "there", 4000, "key", false, {}, milliseconds(20'000), milliseconds(20'000)};
  RelocationLimits limits_{milliseconds(20'000), milliseconds(2'000), milliseconds(5'000),
                           milliseconds(50)};
};

TEST_F(RelocationTest, MovesARunningVmAndEndsDrained) {
  json start;
  json read_point;
  host_.exporter = [&](Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    start = peer.last();
    EXPECT_EQ(peer.fd_count(), 1U);
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
  EXPECT_THAT(host_.notes(), ElementsAre("block discards", "start exporter", "freeze", "end qemu"));
  EXPECT_EQ(qemu_.count("cont"), 0U);
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

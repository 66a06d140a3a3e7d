// A relocation against a scripted QEMU and a scripted exporter.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "backend/session/key_passing.h"
#include "cli/relocation.h"
#include "tests/cli/scripted_helper.h"
#include "tests/cli/scripted_qemu.h"
#include "tests/cli/temporary_directory.h"

namespace vmhop {

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
    return ScriptedHelper::start(exporters_started++ == 0 ? exporter : next_exporter);
  }
  Status block_discards(QmpClient& /*qmp*/) override {
    note("block discards");
    return ok_status();
  }
  void allow_discards(QmpClient* /*qmp*/) override { note("allow discards"); }
  // Each time one more was done, or none ever.
  uint64_t discards() const override { return discards_go_on ? ++discards_ : discards_; }
  bool discards_go_on = false;
  void freeze_qemu() override { note("freeze"); }
  void thaw_qemu() override { note("thaw"); }
  void end_qemu() override { note("end qemu"); }
  bool qemu_has_exited() override { return qemu_exited; }
  bool commit_recorded() const override { return recorded; }
  Result<std::optional<CommitRecord>> commit_record() const override {
    if (!recorded) return std::optional<CommitRecord>();
    CommitRecord record;
    record.outcome = outcome;
    return std::optional(record);
  }
  Status forget_commit() override {
    note("forget commit");
    recorded = false;
    return ok_status();
  }
  void report(const nlohmann::json& event) override {
    std::lock_guard lock(mutex_);
    events_.push_back(event.value("event", ""));
    if (on_event) on_event(event.value("event", ""));
    if (on_notice && event.value("event", "") == "notice") on_notice(event.value("message", ""));
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
  ScriptedHelper::Script next_exporter = [](ScriptedHelper::Peer&) {};  // in place of one that died
  std::atomic<CommitOutcome> outcome{CommitOutcome::kPending};
  std::atomic<bool> recorded{false};
  std::atomic<bool> qemu_exited{false};
  std::function<void(const std::string& event)> on_event;
  std::function<void(const std::string& message)> on_notice;

 private:
  void note(const std::string& text) {
    std::lock_guard lock(mutex_);
    notes_.push_back(text);
  }

  mutable uint64_t discards_ = 0;
  unsigned exporters_started = 0;
  std::string directory_;
  ScriptedQemu& qemu_;
  mutable std::mutex mutex_;  // guards the two lists
  std::vector<std::string> notes_;
  std::vector<std::string> events_;
};

class RelocationTest : public testing::Test {
 protected:
  RelocationOutcome relocate() {
    Relocation relocation(host_, *mailbox_, std::move(request_), limits_);
    return relocation.run();
  }

  // The exporter's part up to "committed", as it should go.
  static void commit(ScriptedHelper::Peer& peer, FakeHost& host) {
    EXPECT_EQ(peer.next(), "start");
    peer.say({{"event", "prepared"}});
    EXPECT_EQ(peer.next(), "read_point");
    EXPECT_EQ(peer.next(), "source_completed");
    host.recorded = true;
    peer.say({{"event", "committed"}});
  }

  void wait_for_note(const std::string& note) const {
    for (int tries = 0; tries < 2000; ++tries) {
      std::vector<std::string> notes = host_.notes();
      if (std::find(notes.begin(), notes.end(), note) != notes.end()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << note << " did not come";
  }

  void wait_for_events(const std::string& event, long count) const {
    for (int tries = 0; tries < 2000; ++tries) {
      std::vector<std::string> events = host_.events();
      if (std::count(events.begin(), events.end(), event) >= count) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << event << " was not reported " << count << " times";
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
  RelocationRequest request_{"there",
                             4000,
                             pass_credentials(Secret::random().value()).value(),
                             {},
                             false,
                             {},
                             std::chrono::milliseconds(20'000),
                             std::chrono::milliseconds(20'000)};
  RelocationLimits limits_{std::chrono::milliseconds(20'000), std::chrono::milliseconds(2'000),
                           std::chrono::milliseconds(5'000),  std::chrono::milliseconds(50),
                           std::chrono::milliseconds(20),     2};
};

}  // namespace vmhop

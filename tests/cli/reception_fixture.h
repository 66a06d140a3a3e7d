// A reception against a scripted QEMU and scripted pagers.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backend/session/key_passing.h"
#include "cli/reception.h"
#include "tests/cli/scripted_helper.h"
#include "tests/cli/scripted_qemu.h"
#include "tests/cli/temporary_directory.h"

namespace vmhop {

class FakeReceptionHost : public ReceptionHost {
 public:
  explicit FakeReceptionHost(ScriptedQemu& qemu) : qemu_(qemu) {}

  std::string vm_name() const override { return "vm"; }
  std::string runtime_directory() const override { return directory_.path(); }
  Result<UniqueFd> key() const override { return pass_credentials(Secret::random().value()); }
  int listening_socket() const override { return 0; }
  TransportPolicy transport() const override { return {}; }
  Result<WaitingVm> start_vm(const std::function<bool()>& /*give_up*/) override {
    if (fails_to_start) return Error("no kernel support");
    auto qmp = QmpClient::connect(qemu_.path(), QmpClient::Clock::now() + std::chrono::seconds(5));
    if (!qmp) return qmp.error();
    return WaitingVm{
        std::move(*qmp), "pc-q35-7.2", {{"vmhop-ram", 8192, 4096, 0x1000, 0, 0}}, exited_.fd()};
  }
  bool owns_qemu() const override { return owned; }
  Result<Helper> start_pager() override {
    auto script = pagers.at(pagers_started++);
    return ScriptedHelper::start(std::move(script));
  }
  Result<QmpClient> connect_qmp(std::chrono::milliseconds timeout) override {
    if (monitor_silent) return Error("no answer", ErrorKind::kTimedOut);
    return QmpClient::connect(qemu_.path(), QmpClient::Clock::now() + timeout);
  }
  void let_front_go() override { note("let front go"); }
  std::optional<ExitStatus> qemu_exit() override {
    std::lock_guard lock(mutex_);
    return exit_;
  }
  void end_qemu() override {
    note("end qemu");
    exit_qemu({0, 9});
  }
  void report(const nlohmann::json& event) override {
    if (on_event) on_event(event.value("event", ""));
  }

  void exit_qemu(ExitStatus status) {
    {
      std::lock_guard lock(mutex_);
      if (!exit_) exit_ = status;
    }
    qemu_.exit();
    exited_.notify();
  }
  std::vector<std::string> notes() const {
    std::lock_guard lock(mutex_);
    return notes_;
  }

  std::vector<ScriptedHelper::Script> pagers;
  size_t pagers_started = 0;
  bool fails_to_start = false;
  bool owned = true;
  std::atomic<bool> monitor_silent{false};
  std::function<void(const std::string& event)> on_event;

 private:
  void note(const std::string& text) {
    std::lock_guard lock(mutex_);
    notes_.push_back(text);
  }

  TemporaryDirectory directory_;
  ScriptedQemu& qemu_;
  EventFd exited_ = EventFd::create().value();
  mutable std::mutex mutex_;  // guards what follows
  std::optional<ExitStatus> exit_;
  std::vector<std::string> notes_;
};

class ReceptionTest : public testing::Test {
 protected:
  ReceptionTest() { qemu_.set_run_state("inmigrate"); }

  ReceptionOutcome receive() {
    Reception reception(host_, *mailbox_, limits_);
    return reception.run();
  }

  // The pager's part, as it should go.
  static void greet(ScriptedHelper::Peer& peer) {
    EXPECT_EQ(peer.next(), "start");
    peer.say({{"event", "listening"}, {"port", 4000}});
    peer.say({{"event", "connected"}, {"peer", "there"}});
    peer.say({{"event", "prepare"}});
    EXPECT_EQ(peer.next(), "prepared");
  }
  void load(ScriptedHelper::Peer& peer) {
    greet(peer);
    qemu_.migration_event("completed");
    EXPECT_EQ(peer.next(), "loaded");
  }
  void run(ScriptedHelper::Peer& peer) {
    load(peer);
    peer.say({{"event", "commit"}, {"was_running", true}});
    EXPECT_EQ(peer.next(), "running");
  }

  TemporaryDirectory directory_;
  ScriptedQemu qemu_{directory_.path() + "/qmp"};
  FakeReceptionHost host_{qemu_};
  std::unique_ptr<Mailbox> mailbox_ = Mailbox::create().value();
  ReceptionLimits limits_{std::chrono::milliseconds(2'000), std::chrono::milliseconds(20'000),
                          std::chrono::milliseconds(20'000), std::chrono::milliseconds(0)};
};

}  // namespace vmhop

// What a supervisor can say about its VM: fed with the events of relocation and reception, asked by
// `vmhop status`.
#pragma once

#include <chrono>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace vmhop {

class VmView {
 public:
  using Clock = std::chrono::steady_clock;

  VmView(std::string vm, std::string state) : vm_(std::move(vm)), state_(std::move(state)) {}

  // "running", "paused", "waiting", "receiving", "in doubt", "given back", "arriving", "preparing",
  // "switching", "leaving", "unresolved".
  void set_state(std::string state) { state_ = std::move(state); }
  const std::string& state() const { return state_; }
  // A lasting fact; null takes it back.
  void set(const std::string& key, nlohmann::json value);
  // A relocation begins or is over: what was seen of an earlier one goes.
  void forget_relocation();
  // One event of docs/protocol-local.md.
  void on_event(const nlohmann::json& event, Clock::time_point now);

  // How long until every page has arrived, by the rate of the last seconds.
  std::optional<std::chrono::milliseconds> time_to_drain() const;
  nlohmann::json to_json() const;

 private:
  struct Sample {
    Clock::time_point at;
    uint64_t resident;
    uint64_t bytes;
  };
  void on_progress(const nlohmann::json& progress, Clock::time_point now);
  void on_link(bool up);
  double per_second(uint64_t Sample::*value) const;

  std::string vm_;
  std::string state_;
  nlohmann::json facts_ = nlohmann::json::object();
  nlohmann::json relocation_ = nlohmann::json::object();
  nlohmann::json progress_;
  nlohmann::json arrived_;  // how the VM's memory came here: counters have to stay for a monitor
  bool link_lost_ = false;
  uint64_t reconnects_ = 0;  // for as long as this supervisor lives
  std::deque<Sample> samples_;
};

}  // namespace vmhop

// A client of QEMU's machine protocol (QMP) on a unix socket. One thread owns a client.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

struct QmpEvent {
  std::string name;
  nlohmann::json data;       // an empty object when the event has none
  int64_t timestamp_ns = 0;  // QEMU's, CLOCK_REALTIME
};

class QmpClient {
 public:
  using Clock = std::chrono::steady_clock;
  using Milliseconds = std::chrono::milliseconds;

  // Connects and negotiates. While the socket is not there yet it tries again until `deadline`;
  // `still_worth_it`, if given, is asked between two tries (has QEMU exited?).
  static Result<QmpClient> connect(const std::string& path, Clock::time_point deadline,
                                   const std::function<Status()>& still_worth_it = {});

  // The same on a socket that is connected already.
  static Result<QmpClient> over(UniqueFd socket, Clock::time_point deadline);

  // "7.2.22"
  const std::string& qemu_version() const { return version_; }

  // Runs a command and waits for its answer. Events that come meanwhile are queued. An error of
  // QEMU's is a kFailed error with its class and description; kTimedOut leaves the client usable,
  // the late answer is dropped. kClosed: QEMU is gone.
  Result<nlohmann::json> execute(const std::string& command,
                                 const nlohmann::json& arguments = nullptr,
                                 Milliseconds timeout = kCommandTimeout);

  // The oldest event not yet taken; kTimedOut when none comes in time.
  Result<QmpEvent> next_event(Milliseconds timeout);

  // For a thread that waits for other things as well: sends without waiting, ...
  Result<uint64_t> send(const std::string& command, const nlohmann::json& arguments = nullptr);
  // ... reads what is there when fd() is readable, without waiting, ...
  Status process_input();
  // ... and takes what has come.
  std::optional<Result<nlohmann::json>> take_reply(uint64_t id);
  // Of events that nobody takes the oldest are forgotten, from 4096 on.
  std::optional<QmpEvent> take_event();
  bool has_queued_event() const { return !events_.empty(); }

  int fd() const { return socket_.get(); }

  static constexpr Milliseconds kCommandTimeout{10'000};

 private:
  explicit QmpClient(UniqueFd socket) : socket_(std::move(socket)) {}
  Status negotiate(Clock::time_point deadline);
  void accept_line(std::string_view line);
  Status wait_for_input(Clock::time_point deadline);
  Status read_available();

  UniqueFd socket_;
  std::string version_;
  std::string partial_;  // bytes after the last whole line
  uint64_t next_id_ = 1;
  std::deque<QmpEvent> events_;
  std::map<uint64_t, Result<nlohmann::json>> replies_;
  std::set<uint64_t> abandoned_;
  std::optional<nlohmann::json> greeting_;
};

}  // namespace vmhop

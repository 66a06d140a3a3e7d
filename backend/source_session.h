// The source's session with its destination: dialed, lost, dialed again; and kept honest by pings.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "backend/base/event_loop.h"
#include "backend/base/worker.h"
#include "backend/source_link.h"

namespace vmhop {

// Belongs to the loop's thread, and so do its callbacks.
class SourceSession {
 public:
  struct Callbacks {
    std::function<void(const Error&)> on_dial_failed;
    // It is up; the link's lanes are the receiver's to serve.
    std::function<void(SourceLink)> on_up;
    std::function<void(const Message&)> on_message;
    std::function<void(const Error&)> on_lost;
    // Bytes went out, or could not.
    std::function<void()> on_queue_changed;
    // The time for redial_later() has come.
    std::function<void()> on_redial;
  };

  SourceSession(EventLoop& loop, Worker& worker, Callbacks callbacks)
      : loop_(loop), worker_(worker), callbacks_(std::move(callbacks)) {}
  ~SourceSession();

  // Runs `connect` in the worker; on_up() or on_dial_failed() follows.
  void dial(std::function<Result<SourceLink>()> connect);
  // on_redial() comes in a while, the longer the more often it was asked for in vain.
  void redial_later();

  bool up() const { return stream_ != nullptr; }
  // Counts links: what belongs to an earlier one says so.
  uint64_t generation() const { return generation_; }
  // Does nothing while it is down; an error ends it.
  void send(const Message& message);
  void flush();
  void lose(const Error& error);
  size_t queued_bytes() const { return stream_ ? stream_->queued_bytes() : 0; }

  // Pings each second from now on: a destination that is silent is lost.
  void start_pings();
  // The blackout is told from half of the shortest round trip; a single one may meet a busy moment.
  void measure_round_trip();
  std::chrono::nanoseconds round_trip() const {
    return round_trip_.value_or(std::chrono::nanoseconds(0));
  }

 private:
  using Clock = EventLoop::Clock;
  void adopt(SourceLink link);
  void serve();
  void receive_all();
  void take(const Message& message);
  void update_events();
  void ping();
  void send_ping();

  EventLoop& loop_;
  Worker& worker_;
  Callbacks callbacks_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<MessageStream> stream_;
  uint64_t generation_ = 0;
  std::chrono::milliseconds redial_delay_{0};
  bool redial_scheduled_ = false;
  Clock::time_point last_heard_{};
  Clock::time_point ping_sent_{};
  int volley_left_ = 0;
  std::optional<std::chrono::nanoseconds> round_trip_;
};

}  // namespace vmhop

// How sources reach a destination: newcomers at its port, the one source that is welcome, and that
// one's lanes. A session and its lanes come and go together.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/event_loop.h"
#include "backend/session/acceptor.h"
#include "backend/session/message_stream.h"

namespace vmhop {

// Belongs to the loop's thread.
class DestinationLink {
 public:
  struct Callbacks {
    // Why this source is not welcome; nothing: it is.
    std::function<std::optional<std::string>(const Hello&)> objection;
    // A source is welcome now: peer() and hello() are its. To be answered with Welcome.
    std::function<void()> on_up;
    std::function<void(const Message&)> on_message;
    std::function<void(AcceptedLane)> on_lane;
    // Session and lanes are gone, whatever the reason; a new source may be about to replace them.
    std::function<void()> on_down;
    // After on_down(), when nobody replaces it.
    std::function<void(const Error&)> on_lost;
  };

  static Result<std::unique_ptr<DestinationLink>> listen(EventLoop& loop,
                                                         const Credentials& credentials,
                                                         UniqueFd listening, Callbacks callbacks);
  ~DestinationLink();

  uint16_t port() const { return acceptor_->port(); }
  bool up() const { return session_ != nullptr; }
  // Of the latest source, also while it is not connected.
  const std::string& peer() const { return peer_; }
  const Hello& hello() const { return hello_; }
  // Counts links: what belongs to an earlier one says so.
  uint64_t generation() const { return generation_; }
  bool all_lanes_there() const {
    return lanes_arrived_ == size_t{hello_.fault_lanes} + hello_.bulk_lanes;
  }

  // Does nothing while it is down; an error ends it.
  void send(const Message& message);
  // Before the process ends: what was sent gets out, within a second.
  void flush();
  // Ends it.
  void lose(const Error& error);

 private:
  // A source that has the key but has not said Hello yet.
  struct Newcomer {
    std::unique_ptr<MessageStream> session;
    std::unique_ptr<Secret> lane_secret;
    std::string peer;
  };

  DestinationLink(EventLoop& loop, Callbacks callbacks)
      : loop_(loop), callbacks_(std::move(callbacks)) {}

  void on_accepted(AcceptedConnection connection);
  void on_session(AcceptedSession session);
  void on_lane(AcceptedLane lane);
  void serve_newcomer(int fd);
  void welcome(Newcomer newcomer, const Hello& hello);
  void close();
  void serve();
  void update_events();

  EventLoop& loop_;
  Callbacks callbacks_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<Acceptor> acceptor_;
  std::map<int, Newcomer> newcomers_;
  std::unique_ptr<MessageStream> session_;
  std::string peer_;
  Hello hello_;
  uint64_t generation_ = 0;
  size_t lanes_arrived_ = 0;
};

}  // namespace vmhop

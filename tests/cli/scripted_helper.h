// An exporter or pager that is nothing but its end of the channel: a thread runs a test's script.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "backend/base/control_channel.h"
#include "cli/helper_process.h"

namespace vmhop {

class ScriptedHelper {
 public:
  class Peer {
   public:
    explicit Peer(UniqueFd socket) : channel_(std::move(socket)) {}
    // The next message's "cmd", "" when the supervisor is gone; its body is last().
    std::string next() {
      auto message = channel_.receive(20'000);
      if (!message) return "";
      last_ = message->body;
      fds_ = std::move(message->fds);
      return last_.value("cmd", "");
    }
    const nlohmann::json& last() const { return last_; }
    size_t fd_count() const { return fds_.size(); }
    void say(const nlohmann::json& event, std::span<const int> fds = {}) {
      (void)channel_.send(event, fds);
    }
    int fd() const { return channel_.fd(); }

   private:
    ControlChannel channel_;
    nlohmann::json last_;
    std::vector<UniqueFd> fds_;
  };
  using Script = std::function<void(Peer&)>;

  // The helper "exits" when its script returns.
  static Helper start(Script script) {
    auto ends = socket_pair(SOCK_SEQPACKET).value();
    auto state = std::make_shared<State>(std::move(ends.second));
    state->thread = std::thread([raw = state.get(), script = std::move(script)] {
      script(raw->peer);
      ::shutdown(raw->peer.fd(), SHUT_RDWR);
      raw->exited = true;
      raw->exited.notify_all();
    });
    auto kill = [state] {
      ::shutdown(state->peer.fd(), SHUT_RDWR);
      if (state->thread.joinable()) state->thread.join();
    };
    return Helper{ControlChannel(std::move(ends.first)), ProcessIdentity{},
                  [state](std::chrono::milliseconds) {
                    if (state->exited && state->thread.joinable()) state->thread.join();
                    return state->exited.load();
                  },
                  kill};
  }

 private:
  struct State {
    explicit State(UniqueFd socket) : peer(std::move(socket)) {}
    ~State() {
      ::shutdown(peer.fd(), SHUT_RDWR);
      if (thread.joinable()) thread.join();
    }
    Peer peer;
    std::thread thread;
    std::atomic<bool> exited{false};
  };
};

}  // namespace vmhop

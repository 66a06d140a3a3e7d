// Local control messages: one JSON object and its descriptors per datagram on a SOCK_SEQPACKET
// unix socket. Every control socket of vmhop speaks it: command line to supervisor, supervisor to
// pager and exporter. Requests carry "cmd", everything unasked "event".
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

struct ControlMessage {
  nlohmann::json body;
  std::vector<UniqueFd> fds;
};

// Not thread-safe: one thread owns a channel.
class ControlChannel {
 public:
  static constexpr size_t kMaxMessage = 128 * 1024;

  explicit ControlChannel(UniqueFd socket) : socket_(std::move(socket)) {}
  static Result<ControlChannel> connect(const std::string& path);

  int fd() const { return socket_.get(); }

  Status send(const nlohmann::json& body, std::span<const int> fds = {});
  // Waits at most `timeout_ms` (-1: for ever) for the next message. kTimedOut when none came,
  // kClosed when the other side is gone; a message that is not a JSON object is an error.
  Result<ControlMessage> receive(int timeout_ms = -1);

 private:
  UniqueFd socket_;
};

}  // namespace vmhop

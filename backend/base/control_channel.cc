#include "backend/base/control_channel.h"

#include <poll.h>
#include <sys/socket.h>

#include "backend/base/json_text.h"

namespace vmhop {

Result<ControlChannel> ControlChannel::connect(const std::string& path) {
  VMHOP_ASSIGN(UniqueFd socket, connect_unix(path, SOCK_SEQPACKET));
  return ControlChannel(std::move(socket));
}

Status ControlChannel::send(const nlohmann::json& body, std::span<const int> fds) {
  // Strings from outside may hold any bytes: replace what is not UTF-8 rather than throw.
  std::string text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMaxMessage) {
    return errorf("a control message of {} bytes; {} are allowed", text.size(), kMaxMessage);
  }
  return send_with_fds(socket_.get(), std::as_bytes(std::span(text)), fds);
}

Result<ControlMessage> ControlChannel::receive(int timeout_ms) {
  VMHOP_ASSIGN(short ready, wait_fd(socket_.get(), POLLIN, timeout_ms));
  if (ready == 0) return Error("no answer on a control socket in time", ErrorKind::kTimedOut);
  VMHOP_ASSIGN(ReceivedMessage raw, receive_with_fds(socket_.get(), kMaxMessage));
  const char* text = reinterpret_cast<const char*>(raw.bytes.data());
  auto body = parse_json({text, raw.bytes.size()});
  if (!body.is_object()) return Error("a control message is not a JSON object");
  return ControlMessage{std::move(body), std::move(raw.fds)};
}

}  // namespace vmhop

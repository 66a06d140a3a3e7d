#include "tests/lab/agent/wire.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace vmhop::lab {
namespace {

// An environment and a standard input are in it.
constexpr size_t kLongestLine = size_t{16} << 20;

}  // namespace

Status AgentConnection::send(const nlohmann::json& message) const {
  // Environments may hold anything; what is no UTF-8 is not worth failing for.
  std::string line = message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  std::string_view rest = line;
  while (!rest.empty()) {
    ssize_t sent = ::send(fd(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      rest.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      VMHOP_ASSIGN([[maybe_unused]] short ready, wait_fd(fd(), POLLOUT, -1));
    } else if (errno != EINTR) {
      return Error::from_errno("sending to the lab's agent", errno);
    }
  }
  return ok_status();
}

Result<nlohmann::json> AgentConnection::receive(int timeout_ms) {
  for (;;) {
    size_t end = partial_.find('\n');
    if (end != std::string::npos) {
      auto message = nlohmann::json::parse(partial_.substr(0, end), nullptr, false);
      partial_.erase(0, end + 1);
      if (!message.is_object()) return Error("the lab's agent was sent what is no JSON object");
      return message;
    }
    if (partial_.size() > kLongestLine) return Error("a message to the lab's agent is too long");
    VMHOP_ASSIGN(short ready, wait_fd(fd(), POLLIN, timeout_ms));
    if (ready == 0) return Error("nothing came from the other host", ErrorKind::kTimedOut);
    std::array<char, 65536> bytes{};
    ssize_t got = ::recv(fd(), bytes.data(), bytes.size(), 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return Error("the other host is gone", ErrorKind::kClosed);
    partial_.append(bytes.data(), static_cast<size_t>(got));
  }
}

}  // namespace vmhop::lab

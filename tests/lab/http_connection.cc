#include "tests/lab/http_connection.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>

namespace vmhop::lab {

Status HttpConnection::open() {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return Error::from_errno("socket", errno);
  int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const auto* address = reinterpret_cast<const sockaddr*>(&server_);
  if (::connect(socket.get(), address, sizeof server_) != 0 && errno != EINPROGRESS) {
    return Error::from_errno("connecting", errno);
  }
  socket_ = std::move(socket);
  return ok_status();
}

Status HttpConnection::ask(const std::string& file) {
  if (!socket_.valid()) VMHOP_TRY(open());
  waiting_ = true;
  asked_ = Clock::now();
  received_.clear();
  unsent_ = fmt::format("GET /{} HTTP/1.1\r\nHost: guest\r\n\r\n", file);
  return send_more();
}

short HttpConnection::events() const {
  return static_cast<short>(POLLIN | (unsent_.empty() ? 0 : POLLOUT));
}

void HttpConnection::close() {
  socket_.reset();
  waiting_ = false;
}

Status HttpConnection::send_more() {
  while (!unsent_.empty()) {
    ssize_t sent = ::send(socket_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    // ENOTCONN, EINPROGRESS: the connection is still being made.
    if (sent < 0 && (errno == EAGAIN || errno == ENOTCONN || errno == EINPROGRESS)) break;
    if (sent < 0) return Error::from_errno("sending a request", errno);
    unsent_.erase(0, static_cast<size_t>(sent));
  }
  return ok_status();
}

Result<std::optional<std::string>> HttpConnection::advance() {
  VMHOP_TRY(send_more());
  std::array<char, 65536> bytes{};
  for (;;) {
    ssize_t got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) break;
    if (got < 0) return Error::from_errno("receiving an answer", errno);
    if (got == 0) return Error("the server closed the connection", ErrorKind::kClosed);
    received_.append(bytes.data(), static_cast<size_t>(got));
  }
  return parse();
}

Result<std::optional<std::string>> HttpConnection::parse() {
  size_t head_end = received_.find("\r\n\r\n");
  if (head_end == std::string::npos) return std::optional<std::string>();
  if (!received_.starts_with("HTTP/1.1 200 ")) {
    return Error("the server answered: " + received_.substr(0, received_.find('\r')));
  }
  constexpr std::string_view kLength = "Content-Length: ";
  size_t at = received_.find(kLength);
  size_t length = 0;
  if (at > head_end ||
      std::from_chars(received_.data() + at + kLength.size(), received_.data() + head_end, length)
              .ec != std::errc{}) {
    return Error("an answer without its length");
  }
  size_t body = head_end + 4;
  if (received_.size() < body + length) return std::optional<std::string>();
  if (received_.size() > body + length) return Error("more came than the answer");
  waiting_ = false;
  return std::optional<std::string>(received_.substr(body));
}

}  // namespace vmhop::lab

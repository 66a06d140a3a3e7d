#include "backend/session/byte_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace vmhop {
namespace {

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(UniqueFd socket) : socket_(std::move(socket)) {}

  using ByteStream::read_some;
  using ByteStream::write_some;

  Result<size_t> read_some(const iovec* buffers, size_t count) override {
    ssize_t got = 0;
    do {
      got = ::readv(socket_.get(), buffers, static_cast<int>(std::min<size_t>(count, IOV_MAX)));
    } while (got < 0 && errno == EINTR);
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0) return Error("the connection was closed", ErrorKind::kClosed);
    if (errno == EAGAIN) return size_t{0};
    return closed("reading from the connection");
  }

  Result<size_t> write_some(const iovec* buffers, size_t count) override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(buffers);
    message.msg_iovlen = std::min<size_t>(count, IOV_MAX);
    ssize_t sent = 0;
    do {
      sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (errno == EAGAIN) return size_t{0};
    return closed("writing to the connection");
  }

  // Where it cannot be had poll() merely tells earlier.
  void expect_input(size_t bytes) override {
    auto wanted = static_cast<int>(std::clamp<size_t>(bytes, 1, INT_MAX));
    if (wanted == expected_) return;
    (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof wanted);
    expected_ = wanted;
  }

  int fd() const override { return socket_.get(); }

 private:
  static Error closed(const char* what) {
    return Error(Error::from_errno(what, errno).message(), ErrorKind::kClosed);
  }
  UniqueFd socket_;
  int expected_ = 1;  // the socket's low-water mark
};

Status wait_or_time_out(ByteStream& stream, short events, int timeout_ms) {
  VMHOP_ASSIGN(short ready, wait_fd(stream.fd(), events, timeout_ms));
  if (ready == 0) {
    return Error(fmt::format("the other side was silent for {} ms", timeout_ms),
                 ErrorKind::kTimedOut);
  }
  return ok_status();
}

}  // namespace

Result<std::unique_ptr<ByteStream>> make_plain_stream(UniqueFd socket) {
  VMHOP_TRY(set_nonblocking(socket.get()));
  return std::unique_ptr<ByteStream>(std::make_unique<PlainStream>(std::move(socket)));
}

Status read_exactly(ByteStream& stream, std::span<std::byte> buffer, int timeout_ms) {
  while (!buffer.empty()) {
    VMHOP_ASSIGN(size_t got, stream.read_some(buffer));
    buffer = buffer.subspan(got);
    if (got == 0) VMHOP_TRY(wait_or_time_out(stream, POLLIN, timeout_ms));
  }
  return ok_status();
}

Status write_exactly(ByteStream& stream, std::span<const std::byte> buffer, int timeout_ms) {
  while (!buffer.empty()) {
    VMHOP_ASSIGN(size_t put, stream.write_some(buffer));
    buffer = buffer.subspan(put);
    if (put == 0) VMHOP_TRY(wait_or_time_out(stream, POLLOUT, timeout_ms));
  }
  return ok_status();
}

}  // namespace vmhop

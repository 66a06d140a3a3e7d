// Messages over a ByteStream. One thread owns it, usually with an EventLoop: watch fd() for
// wanted_events(); when called, flush(), then receive() until it has nothing more, then
// set_events() anew.
#pragma once

#include <poll.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/byte_stream.h"
#include "backend/session/messages.h"

namespace vmhop {

class MessageStream {
 public:
  static std::unique_ptr<MessageStream> create(std::unique_ptr<ByteStream> stream);

  // Sends at once what the connection takes and queues the rest. A message above the limits
  // (limits.h) is kRefused and leaves the stream as it was; other errors are final.
  Status send(const Message& message);
  // Sends more of the queue, if the connection takes it.
  Status flush();
  // What send() left behind: whoever produces a lot waits until this is small.
  size_t queued_bytes() const { return output_.size() - output_sent_; }

  // The next message that has arrived whole; empty when there is none yet. Never blocks. kClosed
  // when the other side is gone and everything it sent was received; kRefused for bytes that are
  // no valid message, after which nothing more can be received.
  Result<std::optional<Message>> receive();
  // The same, but waits up to `timeout_ms` (-1: for ever) for it, sending what is queued. For
  // handshakes and tests.
  Result<Message> receive_blocking(int timeout_ms);
  // Waits up to `timeout_ms` until nothing is queued.
  Status flush_blocking(int timeout_ms);

  int fd() const { return stream_->fd(); }
  short wanted_events() const {
    return static_cast<short>(POLLIN | (queued_bytes() > 0 ? POLLOUT : 0));
  }

 private:
  explicit MessageStream(std::unique_ptr<ByteStream> stream);
  Result<std::optional<Message>> next_buffered();
  Result<size_t> fill();

  std::unique_ptr<ByteStream> stream_;
  std::vector<std::byte> output_;  // encoded; the first output_sent_ bytes are gone
  size_t output_sent_ = 0;
  std::vector<std::byte> input_;  // received bytes are [input_begin_, input_end_)
  size_t input_begin_ = 0;
  size_t input_end_ = 0;
  std::optional<Error> read_failure_;
  std::optional<Error> write_failure_;
};

}  // namespace vmhop

#include "backend/session/message_stream.h"

#include <cstring>
#include <utility>

#include "backend/session/deadline.h"
#include "backend/session/limits.h"

namespace vmhop {
namespace {

constexpr size_t kInitialInput = 64 * 1024;

Error no_answer(const Deadline& deadline) {
  return Error(fmt::format("the other side did not answer within {} ms", deadline.timeout_ms()),
               ErrorKind::kTimedOut);
}

// What the other side would refuse is not sent: the connection would be lost for it.
Status check_limits(const Message& message) {
  auto check = [&message](const char* what, size_t count, size_t limit) -> Status {
    if (count <= limit) return ok_status();
    return refusedf("message {} has {} {}; {} are allowed", message_name(message), count, what,
                    limit);
  };
  if (const auto* hello = std::get_if<Hello>(&message)) {
    return check("regions", hello->regions.size(), kMaxRegions);
  }
  if (const auto* layout = std::get_if<Layout>(&message)) {
    return check("extents", layout->extents.size(), kMaxExtentsPerLayout);
  }
  if (const auto* state = std::get_if<DeviceState>(&message)) {
    return check("bytes", state->bytes.size(), kMaxStateBytes);
  }
  if (const auto* path = std::get_if<ReturnPath>(&message)) {
    return check("bytes", path->bytes.size(), kMaxStateBytes);
  }
  return ok_status();
}

}  // namespace

std::unique_ptr<MessageStream> MessageStream::create(std::unique_ptr<ByteStream> stream) {
  return std::unique_ptr<MessageStream>(new MessageStream(std::move(stream)));
}

MessageStream::MessageStream(std::unique_ptr<ByteStream> stream)
    : stream_(std::move(stream)), input_(kInitialInput) {}

Status MessageStream::send(const Message& message) {
  if (write_failure_) return *write_failure_;
  VMHOP_TRY(check_limits(message));
  std::vector<std::byte> frame = encode(message);
  if (queued_bytes() == 0) {
    output_ = std::move(frame);  // mostly gone whole with the one write that follows
    output_sent_ = 0;
  } else {
    if (output_sent_ > output_.size() / 2) {
      output_.erase(output_.begin(), output_.begin() + static_cast<ptrdiff_t>(output_sent_));
      output_sent_ = 0;
    }
    output_.insert(output_.end(), frame.begin(), frame.end());
  }
  return flush();
}

Status MessageStream::flush() {
  if (write_failure_) return *write_failure_;
  while (queued_bytes() > 0) {
    auto sent = stream_->write_some(std::span(output_).subspan(output_sent_));
    if (!sent) {
      write_failure_ = sent.error();
      return *write_failure_;
    }
    if (*sent == 0) return ok_status();
    output_sent_ += *sent;
  }
  return ok_status();
}

Result<std::optional<Message>> MessageStream::receive() {
  for (;;) {
    if (read_failure_) return *read_failure_;
    auto message = next_buffered();
    if (!message) {
      read_failure_ = message.error();
      continue;
    }
    if (*message) return message;
    auto got = fill();
    if (!got) {
      read_failure_ =
          input_begin_ == input_end_ ? got.error() : got.error().with("in the middle of a message");
    } else if (*got == 0) {
      return std::optional<Message>();
    }
  }
}

// Takes a whole message off the front of the input, if there is one.
Result<std::optional<Message>> MessageStream::next_buffered() {
  constexpr size_t kHeader = sizeof(MessageHeader);
  std::span<const std::byte> have =
      std::span(input_).subspan(input_begin_, input_end_ - input_begin_);
  if (have.size() < kHeader) return std::optional<Message>();
  VMHOP_ASSIGN(MessageHeader header, decode_header(have.first<kHeader>()));
  const size_t frame = kHeader + header.body_length;
  if (have.size() < frame) {
    if (input_.size() < frame) input_.resize(frame);
    return std::optional<Message>();
  }
  VMHOP_ASSIGN(Message message, decode_body(header, have.subspan(kHeader, header.body_length)));
  input_begin_ += frame;
  return std::optional<Message>(std::move(message));
}

// Reads what is there behind the input's end; next_buffered() saw to it that a message fits.
Result<size_t> MessageStream::fill() {
  if (input_begin_ > 0) {
    std::memmove(input_.data(), input_.data() + input_begin_, input_end_ - input_begin_);
    input_end_ -= input_begin_;
    input_begin_ = 0;
  }
  VMHOP_ASSIGN(size_t got, stream_->read_some(std::span(input_).subspan(input_end_)));
  input_end_ += got;
  return got;
}

Result<Message> MessageStream::receive_blocking(int timeout_ms) {
  Deadline deadline(timeout_ms);
  for (;;) {
    // A failure to send shows when nothing is left to receive: the other side may have said why.
    Status flushed = flush();
    VMHOP_ASSIGN(auto message, receive());
    if (message) return *std::move(message);
    if (!flushed) return flushed.error();
    VMHOP_ASSIGN(short ready, wait_fd(fd(), wanted_events(), deadline.left_ms()));
    if (ready == 0) return no_answer(deadline);
  }
}

Status MessageStream::flush_blocking(int timeout_ms) {
  Deadline deadline(timeout_ms);
  for (;;) {
    VMHOP_TRY(flush());
    if (queued_bytes() == 0) return ok_status();
    VMHOP_ASSIGN(short ready, wait_fd(fd(), POLLOUT, deadline.left_ms()));
    if (ready == 0) return no_answer(deadline);
  }
}

}  // namespace vmhop

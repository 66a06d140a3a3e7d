// A session's messages, header and body: what is decoded is encoded to the very same bytes.
#include "backend/session/messages.h"
#include "tests/fuzz/fuzz.h"

using namespace vmhop;
using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kHeader = sizeof(MessageHeader);
  auto input = std::as_bytes(std::span(data, size));
  if (size < kHeader) return 0;
  auto header = decode_header(input.first<kHeader>());
  if (!header) {
    require(header.error().kind() == ErrorKind::kRefused, "a bad header is refused");
    return 0;
  }
  // The length is for the stream to keep to: here the body is all there is.
  auto body = input.subspan(kHeader);
  auto message = decode_body(*header, body);
  if (!message) {
    require(message.error().kind() == ErrorKind::kRefused, "a bad body is refused");
    return 0;
  }
  require(message->index() + 1U == header->type, "a message is of its header's type");
  auto frame = encode(*message);
  require(std::ranges::equal(std::span(frame).subspan(kHeader), body), "one encoding a message");
  auto again = decode_header(std::span(frame).first<kHeader>());
  require(again.ok() && again->body_length == body.size(), "a header says the body's length");
  require(decode_body(*again, body).value() == *message, "decoding is the reverse of encoding");
  return 0;
}

// The framing of a session: in whatever portions bytes arrive, the same messages come out, then the
// same error; and what one stream sends piece by piece is what was given to it.
#include "backend/session/message_stream.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_stream.h"

using namespace vmhop;
using fuzz::Input;
using fuzz::MemoryStream;
using fuzz::require;

namespace {

struct Heard {
  std::vector<Message> messages;
  std::string end;
  bool operator==(const Heard&) const = default;
};

Heard receive_all(std::span<const std::byte> said, size_t portion) {
  auto wire = std::make_unique<MemoryStream>();
  wire->set_portion(portion);
  wire->say(said);
  wire->end();
  auto stream = MessageStream::create(std::move(wire));
  Heard heard;
  for (;;) {
    auto message = stream->receive();
    if (!message) {
      heard.end = message.error().message();
      require(!stream->receive().ok(), "a failure to receive is final");
      return heard;
    }
    require(message->has_value(), "there is something until the end");
    heard.messages.push_back(**std::move(message));
  }
}

void send_all(const std::vector<Message>& messages, size_t portion) {
  auto owned = std::make_unique<MemoryStream>();
  MemoryStream* wire = owned.get();
  auto stream = MessageStream::create(std::move(owned));
  std::vector<std::byte> expected;
  wire->set_portion(0);  // so that there is a queue
  for (const Message& message : messages) {
    require(stream->send(message).ok(), "what can be received can be sent");
    auto frame = encode(message);
    expected.insert(expected.end(), frame.begin(), frame.end());
  }
  wire->set_portion(portion);
  while (stream->queued_bytes() > 0)
    require(stream->flush().ok(), "the queue goes");
  require(wire->heard() == expected, "what was queued is sent, in order");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  size_t portion = 1U + input.byte();
  auto said = input.rest();
  Heard whole = receive_all(said, SIZE_MAX);
  require(whole == receive_all(said, portion), "portions change nothing");
  send_all(whole.messages, portion);
  return 0;
}

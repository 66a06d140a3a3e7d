#include "backend/session/message_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <deque>

#include "backend/session/limits.h"
#include "tests/session/message_samples.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using testing_support::MessageSampler;

// What one stream of a pair writes is what the other one reads, at most `portion` bytes at a time.
class ScriptedStream final : public ByteStream {
 public:
  using ByteStream::read_some;
  using ByteStream::write_some;

  Result<size_t> read_some(const iovec* buffers, size_t /*count*/) override {
    if (arriving.empty()) {
      if (ended) return Error("the connection was closed", ErrorKind::kClosed);
      return size_t{0};
    }
    size_t size = std::min({buffers->iov_len, portion, arriving.size()});
    std::copy_n(arriving.begin(), size, static_cast<std::byte*>(buffers->iov_base));
    arriving.erase(arriving.begin(), arriving.begin() + static_cast<ptrdiff_t>(size));
    longest_read = std::max(longest_read, buffers->iov_len);
    return size;
  }
  Result<size_t> write_some(const iovec* buffers, size_t /*count*/) override {
    ++writes;
    size_t size = std::min({buffers->iov_len, portion, room});
    auto* bytes = static_cast<std::byte*>(buffers->iov_base);
    written.insert(written.end(), bytes, bytes + size);
    room -= size;
    return size;
  }
  int fd() const override { return -1; }

  void arrive(std::span<const std::byte> bytes) {
    arriving.insert(arriving.end(), bytes.begin(), bytes.end());
  }

  size_t portion = SIZE_MAX;
  size_t room = SIZE_MAX;
  bool ended = false;
  int writes = 0;
  size_t longest_read = 0;
  std::deque<std::byte> arriving;
  std::vector<std::byte> written;
};

struct Scripted {
  Scripted() {
    auto owned = std::make_unique<ScriptedStream>();
    wire = owned.get();
    stream = MessageStream::create(std::move(owned));
  }
  ScriptedStream* wire;
  std::unique_ptr<MessageStream> stream;
};

std::vector<Message> one_of_each() {
  MessageSampler sampler(42);
  std::vector<Message> messages;
  for (size_t type = 0; type < std::variant_size_v<Message>; ++type)
    messages.push_back(sampler.make(type));
  return messages;
}

TEST(MessageStream, FindsTheMessagesInBytesThatComeOneAtATime) {
  Scripted end;
  end.wire->portion = 1;
  auto messages = one_of_each();
  for (const Message& message : messages)
    end.wire->arrive(encode(message));
  for (const Message& message : messages) {
    auto got = end.stream->receive();
    ASSERT_TRUE(got.ok()) << got.error().message();
    ASSERT_TRUE(got->has_value());
    EXPECT_TRUE(**got == message) << message_name(message);
  }
  EXPECT_FALSE(end.stream->receive().value().has_value());
}

TEST(MessageStream, WaitsForTheRestOfAMessage) {
  Scripted end;
  auto frame = encode(Abort{"no space left on the moon"});
  for (std::byte byte : std::span(frame).first(frame.size() - 1)) {
    end.wire->arrive(std::span(&byte, 1));
    ASSERT_FALSE(end.stream->receive().value().has_value());
  }
  end.wire->arrive(std::span(frame).last(1));
  EXPECT_TRUE(end.stream->receive().value().has_value());
}

TEST(MessageStream, SendsASmallMessageInOneWrite) {
  Scripted end;
  ASSERT_TRUE(end.stream->send(Ping{7}).ok());
  EXPECT_EQ(end.wire->writes, 1);
  EXPECT_TRUE(end.wire->written == encode(Ping{7}));
  EXPECT_EQ(end.stream->queued_bytes(), 0U);
  EXPECT_EQ(end.stream->wanted_events(), POLLIN);
}

TEST(MessageStream, QueuesWhatTheConnectionDoesNotTakeAndKeepsTheOrder) {
  Scripted end;
  end.wire->room = 3;
  std::vector<std::byte> expected;
  for (const Message& message : one_of_each()) {
    ASSERT_TRUE(end.stream->send(message).ok());
    auto frame = encode(message);
    expected.insert(expected.end(), frame.begin(), frame.end());
  }
  EXPECT_EQ(end.stream->queued_bytes(), expected.size() - 3);
  EXPECT_EQ(end.stream->wanted_events(), POLLIN | POLLOUT);
  for (bool more = true; end.stream->queued_bytes() > 0; more = false) {
    end.wire->room = 1000;
    ASSERT_TRUE(end.stream->flush().ok());
    if (!more) continue;
    ASSERT_TRUE(end.stream->send(Ping{1}).ok());
    auto ping = encode(Ping{1});
    expected.insert(expected.end(), ping.begin(), ping.end());
  }
  EXPECT_TRUE(end.wire->written == expected);
}

TEST(MessageStream, DeliversWhatCameBeforeTheEnd) {
  Scripted end;
  end.wire->arrive(encode(Refuse{"full"}));
  end.wire->ended = true;
  EXPECT_EQ(std::get<Refuse>(end.stream->receive().value().value()).reason, "full");
  auto next = end.stream->receive();
  ASSERT_FALSE(next.ok());
  EXPECT_EQ(next.error().kind(), ErrorKind::kClosed);
}

TEST(MessageStream, SaysWhenTheEndCutsAMessage) {
  Scripted end;
  auto frame = encode(Refuse{"full"});
  end.wire->arrive(std::span(frame).first(10));
  end.wire->ended = true;
  auto next = end.stream->receive();
  ASSERT_FALSE(next.ok());
  EXPECT_EQ(next.error().kind(), ErrorKind::kClosed);
  EXPECT_THAT(next.error().message(), HasSubstr("in the middle of a message"));
}

TEST(MessageStream, RefusesAnOversizeMessageBeforeItReadsIt) {
  Scripted end;
  MessageHeader header{0xffffffff, 5, 0};
  end.wire->arrive(std::as_bytes(std::span(&header, 1)));
  auto got = end.stream->receive();
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().kind(), ErrorKind::kRefused);
  EXPECT_LE(end.wire->longest_read, 64U * 1024);
  // For good: what follows has no beginning any more.
  end.wire->arrive(encode(Ping{}));
  EXPECT_FALSE(end.stream->receive().ok());
}

TEST(MessageStream, DoesNotSendWhatTheOtherSideWouldRefuse) {
  Scripted end;
  Status sent = end.stream->send(DeviceState{std::vector<std::byte>(kMaxStateBytes + 1)});
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error().kind(), ErrorKind::kRefused);
  sent = end.stream->send(Layout{.extents = std::vector<Extent>(kMaxExtentsPerLayout + 1)});
  EXPECT_FALSE(sent.ok());
  EXPECT_TRUE(end.wire->written.empty());
  EXPECT_TRUE(end.stream->send(Ping{}).ok());
}

struct Connected {
  Connected() {
    auto sockets = socket_pair(SOCK_STREAM).value();
    left = MessageStream::create(make_plain_stream(std::move(sockets.first)).value());
    right = MessageStream::create(make_plain_stream(std::move(sockets.second)).value());
  }
  std::unique_ptr<MessageStream> left;
  std::unique_ptr<MessageStream> right;
};

TEST(MessageStream, CarriesDeviceStateOfAnySizeOverASocket) {
  Connected ends;
  constexpr int kMessages = 8;
  for (int i = 0; i < kMessages; ++i) {
    std::vector<std::byte> bytes(kMaxStateBytes, static_cast<std::byte>(i));
    ASSERT_TRUE(ends.left->send(DeviceState{bytes}).ok());
  }
  EXPECT_GT(ends.left->queued_bytes(), 0U);
  int received = 0;
  while (received < kMessages) {
    ASSERT_TRUE(ends.left->flush().ok());
    auto got = ends.right->receive();
    ASSERT_TRUE(got.ok());
    if (!*got) continue;
    const auto& bytes = std::get<DeviceState>(**got).bytes;
    ASSERT_EQ(bytes.size(), kMaxStateBytes);
    EXPECT_EQ(bytes.back(), static_cast<std::byte>(received));
    ++received;
  }
  EXPECT_EQ(ends.left->queued_bytes(), 0U);
}

TEST(MessageStream, ReceivesBlockingUntilTheTimeIsUp) {
  Connected ends;
  auto nothing = ends.left->receive_blocking(1);
  ASSERT_FALSE(nothing.ok());
  EXPECT_EQ(nothing.error().kind(), ErrorKind::kTimedOut);
  ASSERT_TRUE(ends.right->send(Pong{3}).ok());
  EXPECT_EQ(std::get<Pong>(ends.left->receive_blocking(5000).value()).cookie, 3U);
}

TEST(MessageStream, StillReceivesWhatAPeerSaidBeforeItLeft) {
  Connected ends;
  ASSERT_TRUE(ends.right->send(Refuse{"busy"}).ok());
  ends.right.reset();
  (void)ends.left->send(Ping{});
  auto got = ends.left->receive_blocking(5000);
  ASSERT_TRUE(got.ok()) << got.error().message();
  EXPECT_EQ(std::get<Refuse>(*got).reason, "busy");
}

}  // namespace
}  // namespace vmhop

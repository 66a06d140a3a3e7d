#include "backend/session/acceptor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "backend/session/lane.h"
#include "backend/session/plain_lane.h"
#include "tests/session/tcp_pair.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using namespace testing_support;

constexpr int kPatience = 20'000;
constexpr RelocationId kRelocation{1, 2, 3, 4};

// Holds what an acceptor hands over until a test asks for it.
class Arrivals {
 public:
  Acceptor::Callback callback() {
    return [this](AcceptedConnection connection) {
      std::lock_guard lock(mutex_);
      arrived_.push_back(std::move(connection));
      changed_.notify_all();
    };
  }
  std::optional<AcceptedConnection> next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::milliseconds(kPatience),
                           [this] { return !arrived_.empty(); })) {
      return std::nullopt;
    }
    AcceptedConnection connection = std::move(arrived_.front());
    arrived_.pop_front();
    return connection;
  }
  size_t waiting() {
    std::lock_guard lock(mutex_);
    return arrived_.size();
  }

 private:
  std::mutex mutex_;  // guards arrived_
  std::condition_variable changed_;
  std::deque<AcceptedConnection> arrived_;
};

class AnAcceptor : public testing::Test {
 protected:
  void SetUp() override { serve(Acceptor::Options()); }

  void serve(Acceptor::Options options) {
    acceptor_.reset();
    UniqueFd listening = listen_on_loopback();
    address_ = address_of(listening);
    acceptor_ =
        Acceptor::start(std::move(listening), key_.clone(), arrivals_.callback(), options).value();
  }

  Result<std::unique_ptr<TlsStream>> dial_session(const Secret& key) {
    SessionId id{"web"};
    VMHOP_ASSIGN(UniqueFd socket, connect_tcp(address_, kPatience));
    VMHOP_ASSIGN(Secret psk, session_psk(key, id));
    return connect_tls(std::move(socket), to_identity(id), psk, kPatience);
  }

  auto dial(const LaneId& id, DataProtection protection) {
    return dial_lane(address_, id, lane_secret_, protection, kPatience);
  }

  // Nothing that was sent before is still under way: a session that came later is through.
  void expect_no_arrival_but_a_new_session() {
    auto session = dial_session(key_);
    ASSERT_TRUE(session.ok()) << session.error().message();
    auto arrived = arrivals_.next();
    ASSERT_TRUE(arrived.has_value());
    EXPECT_TRUE(std::holds_alternative<AcceptedSession>(*arrived));
    EXPECT_EQ(arrivals_.waiting(), 0U);
  }

  Secret key_ = Secret::random().value();
  Secret lane_secret_ = Secret::random().value();
  std::vector<LaneId> lanes_ = make_lane_ids(kRelocation, 1, 2, 0x1234);
  HostPort address_;
  Arrivals arrivals_;
  std::unique_ptr<Acceptor> acceptor_;  // last: its callbacks end before what they use
};

void expect_connected(ByteStream& a, ByteStream& b) {
  std::array<std::byte, 4> out{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  std::array<std::byte, 4> in{};
  ASSERT_TRUE(write_exactly(a, out, kPatience).ok());
  ASSERT_TRUE(read_exactly(b, in, kPatience).ok());
  EXPECT_EQ(in, out);
  ASSERT_TRUE(write_exactly(b, out, kPatience).ok());
  ASSERT_TRUE(read_exactly(a, in, kPatience).ok());
}

// The connection ends, perhaps after a TLS alert.
void expect_hung_up(int socket) {
  std::array<std::byte, 64> parting{};
  ssize_t got = 0;
  do {
    ASSERT_GT(wait_fd(socket, POLLIN, kPatience).value(), 0);
    got = ::recv(socket, parting.data(), parting.size(), 0);
  } while (got > 0);
  EXPECT_TRUE(got == 0 || errno == ECONNRESET) << errno;
}

TEST_F(AnAcceptor, HandsOverASessionWithTheNameOfItsVm) {
  auto dialed = dial_session(key_);
  ASSERT_TRUE(dialed.ok()) << dialed.error().message();
  auto arrived = arrivals_.next();
  ASSERT_TRUE(arrived.has_value());
  auto& session = std::get<AcceptedSession>(*arrived);
  EXPECT_EQ(session.vm, "web");
  EXPECT_THAT(session.peer, testing::StartsWith("127.0.0.1:"));
  expect_connected(**dialed, *session.stream);
  EXPECT_TRUE((*dialed)->export_secret(kLaneSecretLabel).value() ==
              session.stream->export_secret(kLaneSecretLabel).value());
}

TEST_F(AnAcceptor, LeavesWhatComesRightBehindTheHandshakeForPollToSee) {
  auto dialed = dial_session(key_);
  ASSERT_TRUE(dialed.ok());
  std::array<std::byte, 10> hello{};
  ASSERT_TRUE(write_exactly(**dialed, hello, kPatience).ok());
  auto arrived = arrivals_.next();
  ASSERT_TRUE(arrived.has_value());
  EXPECT_GT(wait_fd(std::get<AcceptedSession>(*arrived).stream->fd(), POLLIN, kPatience).value(),
            0);
}

TEST_F(AnAcceptor, RefusesASessionWithAnotherKey) {
  auto dialed = dial_session(Secret::random().value());
  ASSERT_FALSE(dialed.ok());
  EXPECT_THAT(dialed.error().message(), HasSubstr("different keys"));
  expect_no_arrival_but_a_new_session();
}

class AcceptorLanes : public AnAcceptor, public testing::WithParamInterface<DataProtection> {
 protected:
  static DataProtection agreed() { return GetParam(); }
  static DataProtection other() {
    return agreed() == DataProtection::kPlain ? DataProtection::kEncrypted : DataProtection::kPlain;
  }
  // Whether the dialer learns of a refusal during its handshake or by the end of the connection.
  void expect_refused(Result<std::unique_ptr<ByteStream>> dialed) {
    if (dialed) {
      expect_hung_up((*dialed)->fd());
    } else {
      EXPECT_EQ(dialed.error().kind(), ErrorKind::kRefused) << dialed.error().message();
      EXPECT_THAT(dialed.error().message(), HasSubstr("vmhop1/lane/"));
    }
    expect_no_arrival_but_a_new_session();
  }
};
INSTANTIATE_TEST_SUITE_P(Protection, AcceptorLanes,
                         testing::Values(DataProtection::kEncrypted, DataProtection::kPlain),
                         [](const auto& lanes) {
                           return lanes.param == DataProtection::kPlain ? "Plain" : "Encrypted";
                         });

TEST_P(AcceptorLanes, AreAcceptedWhenExpected) {
  ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, agreed()).ok());
  for (const LaneId& id : lanes_) {
    auto dialed = dial(id, agreed());
    ASSERT_TRUE(dialed.ok()) << dialed.error().message();
    auto arrived = arrivals_.next();
    ASSERT_TRUE(arrived.has_value());
    auto& lane = std::get<AcceptedLane>(*arrived);
    EXPECT_EQ(lane.id, id);
    expect_connected(**dialed, *lane.stream);
  }
}

TEST_P(AcceptorLanes, AreRefusedWhenNotExpected) {
  expect_refused(dial(lanes_[0], agreed()));
}

TEST_P(AcceptorLanes, AreRefusedTheSecondTime) {
  ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, agreed()).ok());
  auto first = dial(lanes_[0], agreed());
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(arrivals_.next().has_value());
  expect_refused(dial(lanes_[0], agreed()));
}

TEST_P(AcceptorLanes, AreRefusedUnderAProtectionThatWasNotAgreed) {
  ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, agreed()).ok());
  expect_refused(dial(lanes_[0], other()));
  // Which does not use them up.
  EXPECT_TRUE(dial(lanes_[0], agreed()).ok());
}

TEST_P(AcceptorLanes, AreRefusedOnceForgotten) {
  ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, agreed()).ok());
  acceptor_->forget_lanes(kRelocation);
  expect_refused(dial(lanes_[0], agreed()));
}

TEST_P(AcceptorLanes, AreRefusedWithAWrongKeyWhichDoesNotUseThemUp) {
  ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, agreed()).ok());
  expect_refused(dial_lane(address_, lanes_[0], Secret::random().value(), agreed(), kPatience));
  EXPECT_TRUE(dial(lanes_[0], agreed()).ok());
}

TEST_F(AnAcceptor, TellsNobodyTheProofOfAPlainLaneWithoutProof) {
  ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, DataProtection::kPlain).ok());
  UniqueFd socket = connect_tcp(address_, kPatience).value();
  LanePreface preface = make_lane_preface(lanes_[0], LaneNonce{});
  ASSERT_TRUE(write_all(socket.get(), std::as_bytes(std::span(&preface, 1))).ok());
  auto stream = make_plain_stream(std::move(socket)).value();
  LaneNonce challenge{};
  ASSERT_TRUE(read_exactly(*stream, challenge, kPatience).ok());
  // The challenge sent back, as by one who hopes for a mirror.
  ASSERT_TRUE(write_exactly(*stream, challenge, kPatience).ok());
  expect_hung_up(stream->fd());
  expect_no_arrival_but_a_new_session();
}

TEST_F(AnAcceptor, ProvesToADialerThatItIsNoImpostor) {
  UniqueFd listening = listen_on_loopback();
  HostPort impostor = address_of(listening);
  std::thread pretends([&] {
    ASSERT_GT(wait_fd(listening.get(), POLLIN, kPatience).value(), 0);
    auto stream = make_plain_stream(UniqueFd(::accept(listening.get(), nullptr, nullptr))).value();
    LanePreface preface{};
    LaneNonce proof{};
    ASSERT_TRUE(
        read_exactly(*stream, std::as_writable_bytes(std::span(&preface, 1)), kPatience).ok());
    ASSERT_TRUE(write_exactly(*stream, LaneNonce{}, kPatience).ok());
    ASSERT_TRUE(read_exactly(*stream, proof, kPatience).ok());
    ASSERT_TRUE(write_exactly(*stream, proof, kPatience).ok());
  });
  auto dialed = dial_lane(impostor, lanes_[0], lane_secret_, DataProtection::kPlain, kPatience);
  pretends.join();
  ASSERT_FALSE(dialed.ok());
  EXPECT_THAT(dialed.error().message(), HasSubstr("did not prove"));
}

TEST_F(AnAcceptor, RefusesPrefacesThatItDoesNotKnow) {
  ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, DataProtection::kPlain).ok());
  auto refuses = [this](auto change) {
    LanePreface preface = make_lane_preface(lanes_[0], LaneNonce{});
    change(preface);
    UniqueFd socket = connect_tcp(address_, kPatience).value();
    ASSERT_TRUE(write_all(socket.get(), std::as_bytes(std::span(&preface, 1))).ok());
    expect_hung_up(socket.get());
  };
  refuses([](LanePreface& p) { p.magic[3] = 'X'; });
  refuses([](LanePreface& p) { p.version = 2; });
  refuses([](LanePreface& p) { p.kind = 0; });
  refuses([](LanePreface& p) { p.kind = 3; });
  refuses([](LanePreface& p) { ++p.generation; });
  expect_no_arrival_but_a_new_session();
}

TEST_F(AnAcceptor, HangsUpOnGarbage) {
  const std::string no_magic = "VMHX" + std::string(sizeof(LanePreface), 'x');
  for (std::string_view garbage :
       {std::string_view("GET / HTTP/1.1\r\n\r\n"), std::string_view("\x16\x03\x01garbage garbage"),
        std::string_view("\x16"), std::string_view("V"), std::string_view(no_magic)}) {
    UniqueFd socket = connect_tcp(address_, kPatience).value();
    ASSERT_TRUE(write_all(socket.get(), std::as_bytes(std::span(garbage))).ok());
    ::shutdown(socket.get(), SHUT_WR);
    expect_hung_up(socket.get());
  }
  expect_no_arrival_but_a_new_session();
}

TEST_F(AnAcceptor, ServesAGoodPeerWhileOthersAreHalfOpen) {
  std::vector<UniqueFd> half_open;
  for (std::string_view beginning : {"", "\x16", "\x16\x03\x01\x02", "V", "VMHL"}) {
    for (int i = 0; i < 8; ++i) {
      half_open.push_back(connect_tcp(address_, kPatience).value());
      ASSERT_TRUE(write_all(half_open.back().get(), std::as_bytes(std::span(beginning))).ok());
    }
  }
  expect_no_arrival_but_a_new_session();
  // None of them had to go for it.
  for (const UniqueFd& socket : half_open)
    EXPECT_EQ(wait_fd(socket.get(), POLLIN, 0).value(), 0);
}

TEST_F(AnAcceptor, DropsTheOldestHandshakeWhenItIsFull) {
  serve({.handshake_timeout_ms = kPatience, .max_handshakes = 2});
  UniqueFd oldest = connect_tcp(address_, kPatience).value();
  UniqueFd second = connect_tcp(address_, kPatience).value();
  UniqueFd third = connect_tcp(address_, kPatience).value();
  expect_hung_up(oldest.get());
  EXPECT_EQ(wait_fd(second.get(), POLLIN, 0).value(), 0);
  expect_no_arrival_but_a_new_session();
}

TEST_F(AnAcceptor, DropsAHandshakeThatTakesTooLong) {
  serve({.handshake_timeout_ms = 1});
  UniqueFd silent = connect_tcp(address_, kPatience).value();
  expect_hung_up(silent.get());
}

TEST_F(AnAcceptor, StopsWithHandshakesUnderWay) {
  UniqueFd silent = connect_tcp(address_, kPatience).value();
  UniqueFd halfway = connect_tcp(address_, kPatience).value();
  ASSERT_TRUE(write_all(halfway.get(), std::as_bytes(std::span("\x16\x03\x01"))).ok());
  expect_no_arrival_but_a_new_session();
  acceptor_.reset();
  expect_hung_up(silent.get());
  expect_hung_up(halfway.get());
}

TEST_F(AnAcceptor, RegistersLanesFromOtherThreadsWhileItServes) {
  std::thread registrar([this] {
    for (uint64_t generation = 100; generation < 140; ++generation) {
      auto lanes = make_lane_ids(kRelocation, 1, 2, generation);
      EXPECT_TRUE(acceptor_->expect_lanes(lanes, lane_secret_, DataProtection::kPlain).ok());
    }
    acceptor_->forget_lanes(kRelocation);
  });
  for (int i = 0; i < 5; ++i)
    expect_no_arrival_but_a_new_session();
  registrar.join();
}

}  // namespace
}  // namespace vmhop

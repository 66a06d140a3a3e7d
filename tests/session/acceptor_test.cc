#include "backend/session/acceptor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "backend/session/plain_lane.h"
#include "tests/session/acceptor_fixture.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using namespace testing_support;

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

// Which data lanes are let in, under both protections.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <span>
#include <thread>

#include "backend/session/acceptor.h"
#include "backend/session/plain_lane.h"
#include "tests/session/acceptor_fixture.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using namespace testing_support;

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

}  // namespace
}  // namespace vmhop

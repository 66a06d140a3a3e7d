// A port whose sessions are by certificates, and the lanes beside them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/session/tls_handshake.h"
#include "tests/session/acceptor_fixture.h"
#include "tests/session/certificate_authority.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using namespace testing_support;

class ACertifiedAcceptor : public AnAcceptor {
 protected:
  void SetUp() override {
    UniqueFd listening = listen_on_loopback();
    address_ = address_of(listening);
    Credentials credentials(
        files_of(SessionRole::kDestination, authority_.pem(), authority_.issue(a_destination())));
    acceptor_ = Acceptor::start(std::move(listening), credentials, arrivals_.callback()).value();
  }

  Result<std::unique_ptr<TlsStream>> dial_certified(const Authority& authority) {
    auto files = files_of(SessionRole::kSource, authority_.pem(), authority.issue(a_source()));
    VMHOP_ASSIGN(Certificates certificates, Certificates::parse(files));
    VMHOP_ASSIGN(UniqueFd socket, connect_tcp(address_, kPatience));
    return connect_tls(std::move(socket),
                       std::make_shared<const Certificates>(std::move(certificates)), address_.host,
                       kPatience);
  }

  AcceptedSession expect_session() {
    auto arrived = arrivals_.next();
    EXPECT_TRUE(arrived && std::holds_alternative<AcceptedSession>(*arrived));
    EXPECT_EQ(arrivals_.waiting(), 0U);
    return std::move(std::get<AcceptedSession>(*arrived));
  }

  Authority authority_;
};

TEST_F(ACertifiedAcceptor, HandsOverASessionAndItsLanes) {
  auto dialed = dial_certified(authority_);
  ASSERT_TRUE(dialed.ok()) << dialed.error().message();
  AcceptedSession session = expect_session();
  EXPECT_EQ(session.vm, "");
  expect_connected(**dialed, *session.stream);

  Secret secret = session.stream->export_secret(kLaneSecretLabel).value();
  for (DataProtection protection : {DataProtection::kEncrypted, DataProtection::kPlain}) {
    LaneId lane = lanes_[protection == DataProtection::kPlain ? 1 : 0];
    ASSERT_TRUE(acceptor_->expect_lanes(std::span(&lane, 1), secret, protection).ok());
    lane_secret_ = (*dialed)->export_secret(kLaneSecretLabel).value();
    auto connected = dial(lane, protection);
    ASSERT_TRUE(connected.ok()) << connected.error().message();
    auto arrived = arrivals_.next();
    ASSERT_TRUE(arrived && std::holds_alternative<AcceptedLane>(*arrived));
    expect_connected(**connected, *std::get<AcceptedLane>(*arrived).stream);
  }
}

TEST_F(ACertifiedAcceptor, TakesNoSessionByAKeyAndNoUnknownLane) {
  auto by_key = dial_session(key_);
  ASSERT_FALSE(by_key.ok());
  EXPECT_THAT(by_key.error().message(), HasSubstr("--tls-creds"));
  EXPECT_FALSE(dial(lanes_[0], DataProtection::kEncrypted).ok());
  EXPECT_FALSE(dial(lanes_[0], DataProtection::kPlain).ok());
  ASSERT_TRUE(dial_certified(authority_).ok());
  expect_session();
}

TEST_F(ACertifiedAcceptor, TakesNobodyOfAnotherCa) {
  Authority other(Authority::root("another CA"));
  auto stranger = dial_certified(other);
  ASSERT_FALSE(stranger.ok());
  EXPECT_EQ(stranger.error().kind(), ErrorKind::kRefused);
  ASSERT_TRUE(dial_certified(authority_).ok());
  expect_session();
}

// Each of them has cost it a key exchange and a signature.
TEST_F(ACertifiedAcceptor, StaysOpenToOthersUnderAFloodOfStrangers) {
  Authority other(Authority::root("another CA"));
  auto files = files_of(SessionRole::kSource, authority_.pem(), other.issue(a_source()));
  auto certificates = std::make_shared<const Certificates>(Certificates::parse(files).value());
  std::vector<std::unique_ptr<TlsHandshake>> halfway;
  for (size_t i = 0; i < 2 * Acceptor::kMaxHandshakes; ++i) {
    halfway.push_back(
        TlsHandshake::client(connect_tcp(address_, kPatience).value(), certificates, address_.host)
            .value());
    (void)halfway.back()->step();  // turned away already, when the answer was quick
  }
  auto dialed = dial_certified(authority_);
  ASSERT_TRUE(dialed.ok()) << dialed.error().message();
  expect_session();
}

TEST_F(ACertifiedAcceptor, IsNotStartedWithASourcesCertificates) {
  Credentials wrong(files_of(SessionRole::kSource, authority_.pem(), authority_.issue(a_source())));
  EXPECT_FALSE(Acceptor::start(listen_on_loopback(), wrong, arrivals_.callback()).ok());
}

TEST_F(AnAcceptor, ByKeyTakesNoSessionByCertificate) {
  Authority authority;
  auto files = files_of(SessionRole::kSource, authority.pem(), authority.issue(a_source()));
  auto certificates = std::make_shared<const Certificates>(Certificates::parse(files).value());
  auto dialed =
      connect_tls(connect_tcp(address_, kPatience).value(), certificates, "host-b", kPatience);
  ASSERT_FALSE(dialed.ok());
  EXPECT_THAT(dialed.error().message(), HasSubstr("takes no certificates"));
  expect_no_arrival_but_a_new_session();
}

}  // namespace
}  // namespace vmhop

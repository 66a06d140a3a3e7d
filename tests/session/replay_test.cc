// Somebody on the network who has no key, but has seen or carries what others say.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <poll.h>

#include <future>
#include <memory>
#include <string>
#include <thread>

#include "backend/session/plain_lane.h"
#include "tests/session/acceptor_fixture.h"

namespace vmhop {
namespace {

using namespace testing_support;

// What a wire-tapper has of the dialer's words.
std::string carry_and_record(UniqueFd dialer, UniqueFd acceptor) {
  std::string said;
  std::array<pollfd, 2> ends{{{dialer.get(), POLLIN, 0}, {acceptor.get(), POLLIN, 0}}};
  std::array<char, 4096> chunk{};
  while (::poll(ends.data(), ends.size(), kPatience) > 0) {
    for (size_t from = 0; from < 2; ++from) {
      if (ends[from].revents == 0) continue;
      ssize_t got = ::recv(ends[from].fd, chunk.data(), chunk.size(), 0);
      if (got <= 0) return said;
      auto size = static_cast<size_t>(got);
      if (from == 0) said.append(chunk.data(), size);
      ::send(ends[1 - from].fd, chunk.data(), size, MSG_NOSIGNAL);
    }
  }
  return said;
}

TEST_F(AnAcceptor, IsNotFooledByAReplayOfAWholeSession) {
  auto sockets = tcp_pair();
  auto tap = std::async(std::launch::async, carry_and_record, std::move(sockets.second),
                        connect_tcp(address_, kPatience).value());
  SessionId id{"web"};
  auto dialed = connect_tls(std::move(sockets.first), to_identity(id),
                            session_psk(key_, id).value(), kPatience);
  ASSERT_TRUE(dialed.ok()) << dialed.error().message();
  ASSERT_TRUE(arrivals_.next().has_value());
  dialed->reset();
  std::string said = tap.get();

  UniqueFd replayed = connect_tcp(address_, kPatience).value();
  ASSERT_TRUE(write_all(replayed.get(), std::as_bytes(std::span(said))).ok());
  ::shutdown(replayed.get(), SHUT_WR);
  expect_hung_up(replayed.get());
  expect_no_arrival_but_a_new_session();
}

TEST_F(AnAcceptor, TakesNoProofOfAPlainLaneThatWasMadeForAnotherChallenge) {
  ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, DataProtection::kPlain).ok());
  LanePreface preface = make_lane_preface(lanes_[0], LaneNonce{});
  auto challenge_of = [&](ByteStream& stream) {
    LaneNonce challenge{};
    EXPECT_TRUE(write_exactly(stream, std::as_bytes(std::span(&preface, 1)), kPatience).ok());
    EXPECT_TRUE(read_exactly(stream, challenge, kPatience).ok());
    return challenge;
  };
  auto cut_off = make_plain_stream(connect_tcp(address_, kPatience).value()).value();
  Secret psk = lane_psk(lane_secret_, lanes_[0]).value();
  Secret proof = lane_proof(psk, LaneEnd::kDialer, challenge_of(*cut_off), LaneNonce{}).value();

  auto replayed = make_plain_stream(connect_tcp(address_, kPatience).value()).value();
  (void)challenge_of(*replayed);
  ASSERT_TRUE(write_exactly(*replayed, proof.bytes(), kPatience).ok());
  expect_hung_up(replayed->fd());
  EXPECT_TRUE(dial(lanes_[0], DataProtection::kPlain).ok()) << "the replay used the lane up";
}

// One key, one role --------------------------------------------------------------------------

TEST(TlsRoles, ADialerThatIsLedBackToItselfLearnsNothing) {
  Secret psk = Secret::random().value();
  auto sockets = tcp_pair();
  auto other = std::async(std::launch::async, [&] {
    return connect_tls(std::move(sockets.second), kIdentity, psk, kPatience);
  });
  EXPECT_FALSE(connect_tls(std::move(sockets.first), kIdentity, psk, kPatience).ok());
  EXPECT_FALSE(other.get().ok());
}

TEST_F(AnAcceptor, LetsNobodyInWhoCallsItselfADestination) {
  std::string identity = "vmhop1/session/destination/web";
  auto dialed = connect_tls(connect_tcp(address_, kPatience).value(), identity,
                            derive(key_, identity).value(), kPatience);
  EXPECT_FALSE(dialed.ok());
  expect_no_arrival_but_a_new_session();
}

TEST_F(AnAcceptor, TakesTheKeyOfOneIdentityForNoOther) {
  ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, DataProtection::kEncrypted).ok());
  auto refuses = [this](const std::string& identity, const Secret& psk) {
    auto dialed = connect_tls(connect_tcp(address_, kPatience).value(), identity, psk, kPatience);
    EXPECT_FALSE(dialed.ok()) << identity;
  };
  refuses(to_identity(SessionId{"web"}), session_psk(key_, {"mail"}).value());
  refuses(to_identity(SessionId{"web"}), lane_psk(lane_secret_, lanes_[0]).value());
  refuses(to_identity(SessionId{"web"}), key_);
  refuses(to_identity(lanes_[0]), lane_psk(lane_secret_, lanes_[1]).value());
  refuses(to_identity(lanes_[0]), lane_psk(key_, lanes_[0]).value());
  expect_no_arrival_but_a_new_session();
}

// A client made of plain OpenSSL that has the key, and wants less protection ------------------

struct SslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

struct Wish {
  const char* cipher = "TLS_AES_128_GCM_SHA256";
  std::array<unsigned char, 2> cipher_id{0x13, 0x01};
  const char* groups = "X25519";
  uint64_t options = 0;
  const Secret* psk = nullptr;
};

int offer_key(SSL* ssl, const EVP_MD* /*digest*/, const unsigned char** identity, size_t* size,
              SSL_SESSION** session) {
  const auto& wish = *static_cast<const Wish*>(SSL_get_app_data(ssl));
  *identity = reinterpret_cast<const unsigned char*>(kIdentity.data());
  *size = kIdentity.size();
  *session = SSL_SESSION_new();
  SSL_SESSION_set1_master_key(
      *session, reinterpret_cast<const unsigned char*>(wish.psk->bytes().data()), Secret::kSize);
  SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, wish.cipher_id.data()));
  SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION);
  return 1;
}

// Whether vmhop accepts it; then a fresh key exchange must have been part of it.
bool is_let_in(Wish wish) {
  Secret psk = Secret::random().value();
  wish.psk = &psk;
  auto sockets = tcp_pair();
  auto client = std::async(std::launch::async, [&, socket = std::move(sockets.first)]() mutable {
    ::fcntl(socket.get(), F_SETFL, 0);  // SSL_connect() is to wait
    std::unique_ptr<SSL_CTX, SslFree> context(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_ciphersuites(context.get(), wish.cipher);
    SSL_CTX_set1_groups_list(context.get(), wish.groups);
    SSL_CTX_set_options(context.get(), wish.options);
    SSL_CTX_set_psk_use_session_callback(context.get(), offer_key);
    std::unique_ptr<SSL, SslFree> ssl(SSL_new(context.get()));
    SSL_set_app_data(ssl.get(), &wish);
    SSL_set_fd(ssl.get(), socket.get());
    bool done = SSL_connect(ssl.get()) == 1;
    EVP_PKEY* exchanged = nullptr;
    EXPECT_TRUE(!done || SSL_get_peer_tmp_key(ssl.get(), &exchanged) == 1);
    EVP_PKEY_free(exchanged);
    socket.reset();
  });
  auto server = accept_tls(std::move(sockets.second), lookup_of(psk), kPatience);
  client.get();
  return server.ok();
}

TEST(TlsDowngrade, IsNotNeededByAClientThatAsksForWhatVmhopDoes) {
  EXPECT_TRUE(is_let_in({}));
}

TEST(TlsDowngrade, ToAnotherCipherIsRefused) {
  EXPECT_FALSE(is_let_in({.cipher = "TLS_CHACHA20_POLY1305_SHA256", .cipher_id = {0x13, 0x03}}));
  EXPECT_FALSE(is_let_in({.cipher = "TLS_AES_256_GCM_SHA384", .cipher_id = {0x13, 0x02}}));
}

TEST(TlsDowngrade, ToAKeyAloneIsRefused) {
  // Offered beside psk_dhe_ke it is not taken ...
  EXPECT_TRUE(is_let_in({.options = SSL_OP_ALLOW_NO_DHE_KEX}));
  // ... nor where no key exchange is possible that both know.
  EXPECT_FALSE(is_let_in({.groups = "P-384", .options = SSL_OP_ALLOW_NO_DHE_KEX}));
}

}  // namespace
}  // namespace vmhop

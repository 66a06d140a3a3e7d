#include "backend/session/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>

#include <array>
#include <cstring>
#include <future>
#include <numeric>
#include <vector>

#include "backend/session/identity.h"
#include "tests/session/tcp_pair.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using testing_support::tcp_pair;

constexpr int kPatience = 20'000;
const std::string kIdentity = to_identity(SessionId{"web"});

using StreamResult = Result<std::unique_ptr<TlsStream>>;

PskLookup lookup_of(const Secret& psk) {
  return [&psk](std::string_view identity) -> std::optional<Secret> {
    if (identity != kIdentity) return std::nullopt;
    return psk.clone();
  };
}

struct Handshakes {
  StreamResult client;
  StreamResult server;
};

Handshakes shake_hands(const Secret& client_psk, const Secret& server_psk,
                       const std::string& identity = kIdentity) {
  auto sockets = tcp_pair();
  auto server = std::async(std::launch::async, [&] {
    return accept_tls(std::move(sockets.second), lookup_of(server_psk), kPatience);
  });
  auto client = connect_tls(std::move(sockets.first), identity, client_psk, kPatience);
  return {std::move(client), server.get()};
}

class ConnectedTls : public testing::Test {
 protected:
  void SetUp() override {
    auto shaken = shake_hands(psk_, psk_);
    ASSERT_TRUE(shaken.client.ok()) << shaken.client.error().message();
    ASSERT_TRUE(shaken.server.ok()) << shaken.server.error().message();
    client_ = *std::move(shaken.client);
    server_ = *std::move(shaken.server);
  }

  Secret psk_ = Secret::random().value();
  std::unique_ptr<TlsStream> client_;
  std::unique_ptr<TlsStream> server_;
};

std::vector<std::byte> pattern(size_t size, uint32_t seed) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) {
    seed = seed * 1664525 + 1013904223;
    bytes[i] = static_cast<std::byte>(seed >> 24);
  }
  return bytes;
}

// `bytes` in pieces whose sizes cycle through odd, tiny, page and record-sized ones.
std::vector<iovec> scatter(std::vector<std::byte>& bytes) {
  static constexpr std::array<size_t, 8> kSizes{1, 4096, 7, 0, 65536, 24, 16384, 100'003};
  std::vector<iovec> pieces;
  size_t offset = 0;
  for (size_t i = 0; offset < bytes.size(); ++i) {
    size_t size = std::min(kSizes[i % kSizes.size()], bytes.size() - offset);
    pieces.push_back({bytes.data() + offset, size});
    offset += size;
  }
  return pieces;
}

// The pieces after the first `done` bytes.
std::vector<iovec> rest_of(const std::vector<iovec>& pieces, size_t done) {
  std::vector<iovec> rest;
  for (iovec piece : pieces) {
    size_t skip = std::min(done, piece.iov_len);
    done -= skip;
    rest.push_back({static_cast<std::byte*>(piece.iov_base) + skip, piece.iov_len - skip});
  }
  return rest;
}

// Sends and receives at once on one stream, in one thread, until both are through.
Status exchange(TlsStream& stream, std::vector<std::byte>& out, std::vector<std::byte>& in) {
  auto out_pieces = scatter(out);
  auto in_pieces = scatter(in);
  size_t sent = 0;
  size_t received = 0;
  while (sent < out.size() || received < in.size()) {
    auto to_send = rest_of(out_pieces, sent);
    VMHOP_ASSIGN(size_t put, stream.write_some(to_send.data(), to_send.size()));
    auto to_receive = rest_of(in_pieces, received);
    VMHOP_ASSIGN(size_t got, stream.read_some(to_receive.data(), to_receive.size()));
    sent += put;
    received += got;
    if (put > 0 || got > 0 || stream.has_buffered_input()) continue;
    short events = 0;
    if (sent < out.size()) events |= POLLOUT;
    if (received < in.size()) events |= POLLIN;
    VMHOP_ASSIGN(short ready, wait_fd(stream.fd(), events, kPatience));
    if (ready == 0) return errorf("stuck at {} sent, {} received", sent, received);
  }
  return ok_status();
}

TEST_F(ConnectedTls, CarriesMegabytesBothWaysThroughScatteredBuffers) {
  auto to_server = pattern(9'000'001, 1);
  auto to_client = pattern(7'654'321, 2);
  std::vector<std::byte> at_server(to_server.size());
  std::vector<std::byte> at_client(to_client.size());
  auto server =
      std::async(std::launch::async, [&] { return exchange(*server_, to_client, at_server); });
  Status client = exchange(*client_, to_server, at_client);
  Status served = server.get();
  ASSERT_TRUE(client.ok()) << client.error().message();
  ASSERT_TRUE(served.ok()) << served.error().message();
  EXPECT_TRUE(at_server == to_server);
  EXPECT_TRUE(at_client == to_client);
}

TEST_F(ConnectedTls, TakesNoMoreThanTheSocketAndLosesNothing) {
  // Nobody reads: the writer must be told so, with all that was not taken still its own.
  auto out = pattern(64 << 20, 3);
  size_t sent = 0;
  for (;;) {
    auto put = client_->write_some(std::span(out).subspan(sent));
    ASSERT_TRUE(put.ok());
    if (*put == 0) break;
    sent += *put;
  }
  ASSERT_LT(sent, out.size());
  std::vector<std::byte> in(out.size());
  auto reader =
      std::async(std::launch::async, [&] { return read_exactly(*server_, in, kPatience); });
  // Goes on in smaller portions than it had offered.
  Status written = ok_status();
  while (sent < out.size() && written.ok()) {
    size_t portion = std::min<size_t>(5000, out.size() - sent);
    written = write_exactly(*client_, std::span(out).subspan(sent, portion), kPatience);
    sent += portion;
  }
  ASSERT_TRUE(written.ok()) << written.error().message();
  ASSERT_TRUE(reader.get().ok());
  EXPECT_TRUE(in == out);
}

TEST_F(ConnectedTls, GoesOnWithAFreshKey) {
  auto out = pattern(100'000, 4);
  std::vector<std::byte> in(out.size());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client_->renew_key().ok());
    ASSERT_TRUE(write_exactly(*client_, out, kPatience).ok());
    ASSERT_TRUE(read_exactly(*server_, in, kPatience).ok());
    EXPECT_TRUE(in == out);
    ASSERT_TRUE(write_exactly(*server_, out, kPatience).ok());
    ASSERT_TRUE(read_exactly(*client_, in, kPatience).ok());
  }
}

TEST_F(ConnectedTls, KnowsWhatItDecryptedAlready) {
  std::array<std::byte, 100> out{};
  ASSERT_TRUE(write_exactly(*client_, out, kPatience).ok());
  ASSERT_GT(wait_fd(server_->fd(), POLLIN, kPatience).value(), 0);
  std::array<std::byte, 40> part{};
  EXPECT_EQ(server_->read_some(part).value(), 40U);
  EXPECT_TRUE(server_->has_buffered_input());
  EXPECT_EQ(server_->read_some(part).value(), 40U);
  EXPECT_EQ(server_->read_some(part).value(), 20U);
  EXPECT_FALSE(server_->has_buffered_input());
}

TEST_F(ConnectedTls, ExportsTheSameSecretsOnBothSidesAndOneForEachLabel) {
  auto lane = client_->export_secret(kLaneSecretLabel).value();
  EXPECT_TRUE(lane == server_->export_secret(kLaneSecretLabel).value());
  EXPECT_FALSE(lane == client_->export_secret("another").value());
  auto second = shake_hands(psk_, psk_);
  EXPECT_FALSE(lane == second.client.value()->export_secret(kLaneSecretLabel).value());
}

TEST_F(ConnectedTls, UsesAesGcmAndTellsTheServerWhoCame) {
  EXPECT_EQ(client_->cipher(), "TLS_AES_128_GCM_SHA256");
  EXPECT_EQ(server_->identity(), kIdentity);
}

TEST_F(ConnectedTls, SaysWhenTheOtherSideIsGone) {
  std::array<std::byte, 3> last{};
  ASSERT_TRUE(write_exactly(*client_, last, kPatience).ok());
  client_.reset();
  std::array<std::byte, 3> in{};
  EXPECT_TRUE(read_exactly(*server_, in, kPatience).ok());
  Status end = read_exactly(*server_, in, kPatience);
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().kind(), ErrorKind::kClosed);
}

TEST_F(ConnectedTls, RefusesRecordsThatWereTamperedWith) {
  // A record of the right shape, but nobody's.
  std::array<unsigned char, 5 + 32> forged{0x17, 0x03, 0x03, 0x00, 32};
  ASSERT_EQ(::send(client_->fd(), forged.data(), forged.size(), 0), std::ssize(forged));
  std::array<std::byte, 3> in{};
  Status read = read_exactly(*server_, in, kPatience);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().kind(), ErrorKind::kClosed);
  EXPECT_FALSE(server_->has_buffered_input());
}

TEST(TlsHandshake, TellsBothSidesOfDifferentKeys) {
  auto shaken = shake_hands(Secret::random().value(), Secret::random().value());
  for (const StreamResult* side : {&shaken.client, &shaken.server}) {
    ASSERT_FALSE(side->ok());
    EXPECT_EQ(side->error().kind(), ErrorKind::kRefused);
    EXPECT_THAT(side->error().message(), HasSubstr("different keys"));
  }
}

TEST(TlsHandshake, RefusesAnIdentityThatIsNotExpected) {
  auto psk = Secret::random().value();
  auto shaken = shake_hands(psk, psk, to_identity(SessionId{"other"}));
  ASSERT_FALSE(shaken.server.ok());
  EXPECT_THAT(shaken.server.error().message(), HasSubstr("nothing here expects"));
  ASSERT_FALSE(shaken.client.ok());
  EXPECT_THAT(shaken.client.error().message(), HasSubstr("does not expect this connection"));
}

TEST(TlsHandshake, TimesOutOnASilentPeer) {
  auto psk = Secret::random().value();
  auto sockets = tcp_pair();
  auto client = connect_tls(std::move(sockets.first), kIdentity, psk, 20);
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().kind(), ErrorKind::kTimedOut);
  auto others = tcp_pair();
  auto server = accept_tls(std::move(others.second), lookup_of(psk), 20);
  ASSERT_FALSE(server.ok());
  EXPECT_EQ(server.error().kind(), ErrorKind::kTimedOut);
}

TEST(TlsHandshake, SaysWhenThePeerHangsUp) {
  auto psk = Secret::random().value();
  auto sockets = tcp_pair();
  sockets.second.reset();
  auto client = connect_tls(std::move(sockets.first), kIdentity, psk, kPatience);
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().kind(), ErrorKind::kClosed);
}

TEST(TlsHandshake, RecognisesAPeerThatIsNotVmhop) {
  auto psk = Secret::random().value();
  for (std::string_view babble :
       {"HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "220 mail ESMTP\r\n"}) {
    auto sockets = tcp_pair();
    ASSERT_TRUE(write_all(sockets.second.get(), std::as_bytes(std::span(babble))).ok());
    auto client = connect_tls(std::move(sockets.first), kIdentity, psk, kPatience);
    ASSERT_FALSE(client.ok());
    EXPECT_EQ(client.error().kind(), ErrorKind::kRefused);
    EXPECT_THAT(client.error().message(), HasSubstr("does not speak vmhop"));
  }
  for (std::string_view babble : {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01nonsense--------"}) {
    auto sockets = tcp_pair();
    ASSERT_TRUE(write_all(sockets.first.get(), std::as_bytes(std::span(babble))).ok());
    sockets.first.reset();
    EXPECT_FALSE(accept_tls(std::move(sockets.second), lookup_of(psk), kPatience).ok());
  }
}

// Peers made of plain OpenSSL: what vmhop must not let in --------------------------------------

struct SslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(X509* certificate) const { X509_free(certificate); }
};
using Context = std::unique_ptr<SSL_CTX, SslFree>;

// A server with a certificate that it signed itself.
Context certificate_context(int version) {
  Context context(SSL_CTX_new(TLS_server_method()));
  SSL_CTX_set_min_proto_version(context.get(), version);
  SSL_CTX_set_max_proto_version(context.get(), version);
  std::unique_ptr<EVP_PKEY, SslFree> key(EVP_EC_gen("P-256"));
  std::unique_ptr<X509, SslFree> certificate(X509_new());
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_sign(certificate.get(), key.get(), EVP_sha256());
  SSL_CTX_use_certificate(context.get(), certificate.get());
  SSL_CTX_use_PrivateKey(context.get(), key.get());
  return context;
}

// Does the foreign side's handshake, blocking, and gives up the connection.
void run_foreign(SSL_CTX* context, UniqueFd socket, int (*handshake)(SSL*)) {
  std::unique_ptr<SSL, SslFree> ssl(SSL_new(context));
  SSL_set_fd(ssl.get(), socket.get());
  handshake(ssl.get());
}

Error connect_to_foreign(int version) {
  auto psk = Secret::random().value();
  auto sockets = tcp_pair();
  Context context = certificate_context(version);
  auto server = std::async(std::launch::async, [&] {
    run_foreign(context.get(), std::move(sockets.second), SSL_accept);
  });
  auto client = connect_tls(std::move(sockets.first), kIdentity, psk, kPatience);
  server.get();
  return client.ok() ? Error("let in") : client.error();
}

Error accept_foreign(int version) {
  auto psk = Secret::random().value();
  auto sockets = tcp_pair();
  Context context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_min_proto_version(context.get(), version);
  SSL_CTX_set_max_proto_version(context.get(), version);
  auto client = std::async(std::launch::async, [&] {
    run_foreign(context.get(), std::move(sockets.first), SSL_connect);
  });
  auto server = accept_tls(std::move(sockets.second), lookup_of(psk), kPatience);
  Error error = server.ok() ? Error("let in") : server.error();
  client.get();
  return error;
}

TEST(TlsHandshake, TrustsNoCertificate) {
  Error error = connect_to_foreign(TLS1_3_VERSION);
  EXPECT_EQ(error.kind(), ErrorKind::kRefused);
  EXPECT_THAT(error.message(), HasSubstr("does not speak vmhop"));
}

TEST(TlsHandshake, RefusesAClientWithoutAKey) {
  Error error = accept_foreign(TLS1_3_VERSION);
  EXPECT_EQ(error.kind(), ErrorKind::kRefused);
  EXPECT_THAT(error.message(), HasSubstr("no pre-shared key"));
}

TEST(TlsHandshake, RefusesTls12OnBothSides) {
  EXPECT_THAT(connect_to_foreign(TLS1_2_VERSION).message(), HasSubstr("older than 1.3"));
  EXPECT_THAT(accept_foreign(TLS1_2_VERSION).message(), HasSubstr("older than 1.3"));
}

}  // namespace
}  // namespace vmhop

// Who is let in, and what those hear who are not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <future>
#include <memory>
#include <string_view>

#include "backend/session/tls.h"
#include "tests/session/tls_pair.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using namespace testing_support;

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

// Sessions by certificates: who is let in, and what those hear who are not.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include <future>

#include "backend/session/tls.h"
#include "tests/session/certificate_authority.h"
#include "tests/session/tls_pair.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using namespace testing_support;
using Files = std::shared_ptr<CertificateFiles>;

SharedCertificates parsed(const Files& files) {
  auto certificates = Certificates::parse(files);
  EXPECT_TRUE(certificates.ok()) << certificates.error().message();
  return std::make_shared<const Certificates>(std::move(*certificates));
}

PskLookup no_key() {
  return [](std::string_view) { return std::optional<Secret>(); };
}

void expect_refusal(const StreamResult& side, const std::string& text) {
  ASSERT_FALSE(side.ok()) << "let in, instead of: " << text;
  EXPECT_EQ(side.error().kind(), ErrorKind::kRefused) << side.error().message();
  EXPECT_THAT(side.error().message(), HasSubstr(text));
}

class CertificateSession : public testing::Test {
 protected:
  static Handshakes shake(const Files& client, const Files& server,
                          const std::string& host = "host-b") {
    auto sockets = tcp_pair();
    auto accepted = std::async(std::launch::async, [&] {
      return accept_tls(std::move(sockets.second), no_key(), parsed(server), kPatience);
    });
    auto connected = connect_tls(std::move(sockets.first), parsed(client), host, kPatience);
    return {std::move(connected), accepted.get()};
  }
  Files source(const Wish& wish = a_source()) {
    return files_of(SessionRole::kSource, authority_.pem(), authority_.issue(wish));
  }
  Files destination(const Wish& wish = a_destination()) {
    return files_of(SessionRole::kDestination, authority_.pem(), authority_.issue(wish));
  }
  static void expect_good(const Handshakes& shaken) {
    ASSERT_TRUE(shaken.client.ok()) << shaken.client.error().message();
    ASSERT_TRUE(shaken.server.ok()) << shaken.server.error().message();
  }

  Authority authority_;
  Authority other_{Authority::root("another CA")};
};

TEST_F(CertificateSession, IsForBothWhoHaveACertificateOfTheCa) {
  Handshakes shaken = shake(source(), destination());
  expect_good(shaken);
  EXPECT_EQ((*shaken.client)->identity(), kCertificateSession);
  EXPECT_EQ((*shaken.server)->identity(), kCertificateSession);
  EXPECT_EQ((*shaken.client)->cipher(), "TLS_AES_128_GCM_SHA256");
  EXPECT_TRUE((*shaken.client)->export_secret(kLaneSecretLabel).value() ==
              (*shaken.server)->export_secret(kLaneSecretLabel).value());
}

TEST_F(CertificateSession, TakesKeysOfAllUsualKinds) {
  for (EVP_PKEY* (*make)() :
       {+[] { return EVP_EC_gen("P-384"); }, +[] { return EVP_RSA_gen(2048); },
        +[] { return EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"); }}) {
    Wish client = a_source();
    Wish server = a_destination();
    client.make_key = server.make_key = make;
    expect_good(shake(source(client), destination(server)));
  }
}

TEST_F(CertificateSession, RefusesADestinationOfAnotherCa) {
  Files impostor =
      files_of(SessionRole::kDestination, authority_.pem(), other_.issue(a_destination()));
  Handshakes shaken = shake(source(), impostor);
  expect_refusal(shaken.client,
                 "the destination's certificate (CN=host-b) is not signed by the CA in "
                 "/at/source/ca-cert.pem");
  expect_refusal(shaken.server,
                 "the other side does not know the CA of /at/destination/server-cert.pem");
}

TEST_F(CertificateSession, RefusesASourceOfAnotherCaAndTellsIt) {
  Files stranger = files_of(SessionRole::kSource, authority_.pem(), other_.issue(a_source()));
  Handshakes shaken = shake(stranger, destination());
  expect_refusal(shaken.server,
                 "the source's certificate (CN=host-a) is not signed by the CA in "
                 "/at/destination/ca-cert.pem");
  expect_refusal(shaken.client,
                 "the other side does not know the CA of /at/source/client-cert.pem");
}

TEST_F(CertificateSession, RefusesACertificateThatSignedItself) {
  // It calls itself what the CA is called.
  Authority impostor;
  Files stranger = files_of(SessionRole::kSource, authority_.pem(), impostor.issue(a_source()));
  expect_refusal(shake(stranger, destination()).server, "is not signed by the CA");
}

TEST_F(CertificateSession, RefusesWhatHasExpiredOrIsNotValidYet) {
  Wish old = a_source();
  old.until = -1;
  Handshakes shaken = shake(source(old), destination());
  expect_refusal(shaken.server, "the source's certificate (CN=host-a) expired on");
  expect_refusal(shaken.client, "to the other side /at/source/client-cert.pem has expired");

  old = a_destination();
  old.until = -1;
  expect_refusal(shake(source(), destination(old)).client,
                 "the destination's certificate (CN=host-b) expired on");

  Wish early = a_source();
  early.from = kHour;
  expect_refusal(shake(source(early), destination()).server, "is valid only from");
}

TEST_F(CertificateSession, RefusesWhoSpeaksInARoleThatItsCertificateIsNotFor) {
  for (const char* purpose :
       {"", "serverAuth", "clientAuth,serverAuth", "anyExtendedKeyUsage", "emailProtection"}) {
    Wish wish = a_source();
    wish.purpose = purpose;
    Handshakes shaken = shake(source(wish), destination());
    expect_refusal(shaken.server,
                   "(CN=host-a) is not for a source: it has to have the extended key usage "
                   "clientAuth, and not serverAuth");
    expect_refusal(shaken.client, "is not for this role");
  }
  for (const char* purpose : {"", "clientAuth", "clientAuth,serverAuth", "anyExtendedKeyUsage"}) {
    Wish wish = a_destination();
    wish.purpose = purpose;
    expect_refusal(shake(source(), destination(wish)).client,
                   "(CN=host-b) is not for a destination");
  }
}

TEST_F(CertificateSession, IsWithTheHostThatWasDialedOrTheOneThatWasNamed) {
  expect_good(shake(source(), destination(), "127.0.0.1"));
  expect_refusal(shake(source(), destination(), "127.0.0.2").client,
                 "(CN=host-b) is for DNS:host-b, IP Address:127.0.0.1, not for 127.0.0.2");
  Handshakes shaken = shake(source(), destination(), "host-c");
  expect_refusal(shaken.client, "say whom to expect: --tls-hostname NAME");
  expect_refusal(shaken.server, "does not accept /at/destination/server-cert.pem");

  Files expects_b = source();
  expects_b->peer_names = {"host-b"};
  expect_good(shake(expects_b, destination(), "host-c"));
  Files expects_c = source();
  expects_c->peer_names = {"host-c"};
  expect_refusal(shake(expects_c, destination()).client, "not for host-c");
}

TEST_F(CertificateSession, TakesTheCommonNameOnlyOfACertificateWithoutOthers) {
  Wish plain = a_destination();
  plain.alternative = "";
  expect_good(shake(source(), destination(plain)));
  plain.alternative = "DNS:somewhere";
  expect_refusal(shake(source(), destination(plain)).client,
                 "is for DNS:somewhere, not for host-b");
}

TEST_F(CertificateSession, IsOnlyForSourcesThatAreAllowed) {
  Files allows = destination();
  allows->peer_names = {"host-x", "host-a"};
  expect_good(shake(source(), allows));
  allows = destination();
  allows->peer_names = {"host-x", "host-y"};
  Handshakes shaken = shake(source(), allows);
  expect_refusal(
      shaken.server,
      "(CN=host-a) is for DNS:host-a: only host-x, host-y may send VMs here (--tls-authz)");
  expect_refusal(shaken.client, "does not accept /at/source/client-cert.pem");
}

TEST_F(CertificateSession, RefusesWhatTheCaHasRevoked) {
  Issued client = authority_.issue(a_source());
  Issued server = authority_.issue(a_destination());
  auto with = [&](const std::string& at_source, const std::string& at_destination) {
    return shake(files_of(SessionRole::kSource, authority_.pem(), client, at_source),
                 files_of(SessionRole::kDestination, authority_.pem(), server, at_destination));
  };
  expect_good(with(authority_.revoke({}), authority_.revoke({})));
  Handshakes shaken = with("", authority_.revoke({&server, &client}));
  expect_refusal(shaken.server,
                 "(CN=host-a) was revoked by its CA, says /at/destination/ca-crl.pem");
  expect_refusal(shaken.client, "the other side knows that /at/source/client-cert.pem was revoked");
  expect_refusal(with(authority_.revoke({&server}), "").client, "(CN=host-b) was revoked");
  expect_refusal(with("", authority_.revoke({}, -1)).server, "ca-crl.pem has expired");
  expect_refusal(with("", other_.revoke({})).server, "has no list of every CA");
}

TEST_F(CertificateSession, GoesByAuthoritiesInBetween) {
  Authority between = authority_.subordinate(Authority::root("CA between"));
  Issued client = between.issue(a_source());
  Files chained = files_of(SessionRole::kSource, authority_.pem(), client);
  chained->certificate += between.pem();
  expect_good(shake(chained, destination()));
  Files alone = files_of(SessionRole::kSource, authority_.pem(), client);
  expect_refusal(shake(alone, destination()).server, "is not signed by the CA");
  // Known as a CA here, as in QEMU: its own CA need not be.
  Files knows = destination();
  knows->authorities = between.pem();
  expect_good(shake(alone, knows));
}

TEST_F(CertificateSession, RefusesACertificateThatSignedAnother) {
  Authority host = authority_.subordinate(a_source());  // CA:FALSE
  Files abuser = files_of(SessionRole::kSource, authority_.pem(), host.issue(a_source()));
  abuser->certificate += host.pem();
  EXPECT_FALSE(shake(abuser, destination()).server.ok());
}

// Against downgrades -------------------------------------------------------------------------

TEST_F(CertificateSession, IsNotGivenToWhoHasAKeyOnly) {
  Secret psk = Secret::random().value();
  auto sockets = tcp_pair();
  auto accepted = std::async(std::launch::async, [&] {
    return accept_tls(std::move(sockets.second), no_key(), parsed(destination()), kPatience);
  });
  auto connected = connect_tls(std::move(sockets.first), kIdentity, psk, kPatience);
  expect_refusal(connected,
                 "If it was given certificates (--tls-creds), this side needs some, too");
  expect_refusal(accepted.get(), "nothing here expects the identity");
}

TEST_F(CertificateSession, IsNotTakenByWhoHasAKeyOnly) {
  Secret psk = Secret::random().value();
  auto sockets = tcp_pair();
  auto accepted = std::async(std::launch::async, [&] {
    return accept_tls(std::move(sockets.second), lookup_of(psk), kPatience);
  });
  auto connected = connect_tls(std::move(sockets.first), parsed(source()), "host-b", kPatience);
  expect_refusal(connected, "it was given a key and no --tls-creds");
  expect_refusal(accepted.get(), "it was given certificates (--tls-creds) and this side was not");
}

TEST_F(CertificateSession, HasLanesByTheirKeysBesideIt) {
  Secret psk = Secret::random().value();
  auto sockets = tcp_pair();
  auto accepted = std::async(std::launch::async, [&] {
    return accept_tls(std::move(sockets.second), lookup_of(psk), parsed(destination()), kPatience);
  });
  auto connected = connect_tls(std::move(sockets.first), kIdentity, psk, kPatience);
  ASSERT_TRUE(connected.ok()) << connected.error().message();
  auto lane = accepted.get();
  ASSERT_TRUE(lane.ok()) << lane.error().message();
  EXPECT_EQ((*lane)->identity(), kIdentity);
}

// Peers made of plain OpenSSL ------------------------------------------------------------------

struct SslFree {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

struct Foreign {
  int version = TLS1_3_VERSION;
  bool speaks_vmhop = true;
  const Issued* own = nullptr;
};

void run_foreign(const Foreign& peer, UniqueFd socket, int (*handshake)(SSL*)) {
  static const std::string protocol =
      "\x15"
      "vmhop1/session/source";
  bool client = handshake == SSL_connect;
  std::unique_ptr<SSL_CTX, SslFree> context(
      SSL_CTX_new(client ? TLS_client_method() : TLS_server_method()));
  SSL_CTX_set_min_proto_version(context.get(), peer.version);
  SSL_CTX_set_max_proto_version(context.get(), peer.version);
  if (peer.own != nullptr) {
    SSL_CTX_use_certificate(context.get(), peer.own->certificate.get());
    SSL_CTX_use_PrivateKey(context.get(), peer.own->key.get());
  }
  const auto* list = reinterpret_cast<const unsigned char*>(protocol.data());
  if (peer.speaks_vmhop && client) {
    SSL_CTX_set_alpn_protos(context.get(), list, static_cast<unsigned>(protocol.size()));
  }
  if (peer.speaks_vmhop && !client) {
    SSL_CTX_set_alpn_select_cb(
        context.get(),
        [](SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
           unsigned, void*) {
          *chosen = offered + 1;
          *size = offered[0];
          return SSL_TLSEXT_ERR_OK;
        },
        nullptr);
  }
  std::unique_ptr<SSL, SslFree> ssl(SSL_new(context.get()));
  ::fcntl(socket.get(), F_SETFL, 0);  // it blocks
  SSL_set_fd(ssl.get(), socket.get());
  ::signal(SIGPIPE, SIG_IGN);  // OpenSSL's own sockets raise it
  char byte = 1;
  if (handshake(ssl.get()) == 1)
    client ? SSL_read(ssl.get(), &byte, 1) : SSL_write(ssl.get(), &byte, 1);
}

// Certificates are parsed before the peer begins: the first secret makes OpenSSL's secure heap,
// which must be there before another thread works with OpenSSL.
class ForeignPeer : public CertificateSession {
 protected:
  StreamResult dials(const Foreign& peer) {
    SharedCertificates own = parsed(destination());
    auto sockets = tcp_pair();
    auto foreign = std::async(std::launch::async,
                              [&] { run_foreign(peer, std::move(sockets.first), SSL_connect); });
    return accept_tls(std::move(sockets.second), no_key(), own, kPatience);
  }
  StreamResult answers(const Foreign& peer) {
    SharedCertificates own = parsed(source());
    auto sockets = tcp_pair();
    auto foreign = std::async(std::launch::async,
                              [&] { run_foreign(peer, std::move(sockets.second), SSL_accept); });
    return connect_tls(std::move(sockets.first), own, "host-b", kPatience);
  }
  Issued client_ = authority_.issue(a_source());
  Issued server_ = authority_.issue(a_destination());
};

TEST_F(ForeignPeer, WithAGoodCertificateIsLikeVmhop) {
  EXPECT_TRUE(dials({.own = &client_}).ok());
  EXPECT_TRUE(answers({.own = &server_}).ok());
}

TEST_F(ForeignPeer, WithoutACertificateIsRefused) {
  expect_refusal(dials({}), "it presented no certificate");
}

TEST_F(ForeignPeer, WithAnOlderTlsIsRefusedWhateverItsCertificate) {
  expect_refusal(dials({.version = TLS1_2_VERSION, .own = &client_}), "older than 1.3");
  expect_refusal(answers({.version = TLS1_2_VERSION, .own = &server_}), "older than 1.3");
}

// A CA may serve other programs, libvirt for one.
TEST_F(ForeignPeer, OfAnotherProtocolIsRefusedWhateverItsCertificate) {
  expect_refusal(dials({.speaks_vmhop = false, .own = &client_}), "does not speak vmhop");
  expect_refusal(answers({.speaks_vmhop = false, .own = &server_}), "does not speak vmhop");
}

}  // namespace
}  // namespace vmhop

#include "backend/session/tls_handshake.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>

#include <array>

#include "backend/session/certificate_errors.h"
#include "backend/session/identity.h"
#include "backend/session/socket_bio.h"
#include "backend/session/tls_by_certificate.h"

namespace vmhop {
namespace {

// AES with the processor's help: 3.3 GB/s a core where ChaCha20 makes 2.2 (openssl speed, 16 KiB).
constexpr const char* kCipherSuite = "TLS_AES_128_GCM_SHA256";
constexpr std::array<unsigned char, 2> kCipherId{0x13, 0x01};
// For many records with one system call.
constexpr size_t kReadBuffer = kRecordsPerSend * kMaxSealedRecord;

SSL_CTX* make_context(const SSL_METHOD* method) {
  SSL_CTX* context = SSL_CTX_new(method);
  if (context == nullptr) return nullptr;
  bool good = SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
              SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
              SSL_CTX_set_ciphersuites(context, kCipherSuite) == 1 &&
              SSL_CTX_set1_groups_list(context, "X25519:P-256") == 1 &&
              SSL_CTX_set_num_tickets(context, 0) == 1 &&
              SSL_CTX_set_max_early_data(context, 0) == 1 &&
              SSL_CTX_set_recv_max_early_data(context, 0) == 1;
  if (!good) {
    SSL_CTX_free(context);
    return nullptr;
  }
  // Without SSL_OP_ALLOW_NO_DHE_KEX a key exchange is part of every handshake (psk_dhe_ke).
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_default_read_buffer_len(context, kReadBuffer);
  // No certificate authority is trusted: without Certificates no client ever accepts one.
  if (method == TLS_client_method()) SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  if (method == TLS_server_method()) select_certificate_sessions(context);
  return context;
}

Error wrong_key() {
  return refusedf(
      "the two sides have different keys. Copy the key file of one to the other (vmhop keygen "
      "makes one; see --key)");
}

Error not_vmhop() {
  return refusedf(
      "what answers there does not speak vmhop's protocol. Check host and port: 'vmhop receive' "
      "prints its own");
}

Error older_tls() {
  return refusedf(
      "the other side speaks only a TLS older than 1.3, so it is no vmhop. Check host and port");
}

}  // namespace

// What OpenSSL calls to learn the key.
struct PskCallbacks {
  static TlsHandshake& self(SSL* ssl) { return *static_cast<TlsHandshake*>(SSL_get_app_data(ssl)); }

  static int client(SSL* ssl, const EVP_MD* /*digest*/, const unsigned char** identity,
                    size_t* identity_size, SSL_SESSION** session) {
    TlsHandshake& handshake = self(ssl);
    *identity = reinterpret_cast<const unsigned char*>(handshake.identity_.data());
    *identity_size = handshake.identity_.size();
    SSL_SESSION_up_ref(handshake.psk_.get());
    *session = handshake.psk_.get();
    return 1;
  }

  // Called for one identity after the other until one is welcome: the last one is the one used.
  static int server(SSL* ssl, const unsigned char* identity, size_t identity_size,
                    SSL_SESSION** session) {
    TlsHandshake& handshake = self(ssl);
    *session = nullptr;
    std::string_view claimed(reinterpret_cast<const char*>(identity), identity_size);
    std::optional<Secret> psk = handshake.lookup_(claimed);
    if (!psk) {
      handshake.unknown_identity_ = true;
      return 1;
    }
    auto made = TlsHandshake::make_session(ssl, *psk);
    if (!made) return 0;
    handshake.identity_ = claimed;
    *session = (*made).release();
    return 1;
  }
};

void TlsHandshake::SessionDeleter::operator()(ssl_session_st* session) const {
  SSL_SESSION_free(session);
}

TlsHandshake::TlsHandshake(std::unique_ptr<SocketBio> bio, TlsStream::SslPtr ssl, Role role)
    : bio_(std::move(bio)), ssl_(std::move(ssl)), role_(role) {}

TlsHandshake::~TlsHandshake() = default;

Result<std::unique_ptr<TlsHandshake>> TlsHandshake::create(UniqueFd socket, Role role) {
  // One context for all, never freed: streams may live until the end of the process.
  static SSL_CTX* const client_context = make_context(TLS_client_method());
  static SSL_CTX* const server_context = make_context(TLS_server_method());
  SSL_CTX* context = role == Role::kClient ? client_context : server_context;
  if (context == nullptr) {
    return errorf(
        "OpenSSL offers no TLS 1.3 with {} here; look at its configuration file (openssl version "
        "-d names its folder)",
        kCipherSuite);
  }
  VMHOP_ASSIGN(auto bio, SocketBio::create(std::move(socket)));
  TlsStream::SslPtr ssl(SSL_new(context));
  if (ssl == nullptr) return Error("OpenSSL has no memory for a connection");
  BIO_up_ref(bio->bio());
  SSL_set_bio(ssl.get(), bio->bio(), bio->bio());
  std::unique_ptr<TlsHandshake> made(new TlsHandshake(std::move(bio), std::move(ssl), role));
  SSL_set_app_data(made->ssl_.get(), made.get());
  return made;
}

Result<std::unique_ptr<TlsHandshake>> TlsHandshake::client(UniqueFd socket,
                                                           const std::string& identity,
                                                           const Secret& psk) {
  VMHOP_ASSIGN(auto made, create(std::move(socket), Role::kClient));
  VMHOP_ASSIGN(made->psk_, make_session(made->ssl_.get(), psk));
  made->identity_ = identity;
  SSL_set_psk_use_session_callback(made->ssl_.get(), PskCallbacks::client);
  SSL_set_connect_state(made->ssl_.get());
  return made;
}

Result<std::unique_ptr<TlsHandshake>> TlsHandshake::client(UniqueFd socket,
                                                           SharedCertificates certificates,
                                                           const std::string& host) {
  VMHOP_ASSIGN(auto made, create(std::move(socket), Role::kClient));
  if (certificates->files().role != SessionRole::kSource) {
    return Error("a destination's certificates came for a source");
  }
  made->certificates_ = std::move(certificates);
  const std::vector<std::string>& named = made->certificates_->files().peer_names;
  made->peer_names_ = named.empty() ? std::vector<std::string>{host} : named;
  VMHOP_TRY(offer_certificates(made->ssl_.get(), *made->certificates_, made->peer_names_));
  SSL_set_connect_state(made->ssl_.get());
  return made;
}

Result<std::unique_ptr<TlsHandshake>> TlsHandshake::server(UniqueFd socket, PskLookup lookup,
                                                           SharedCertificates certificates) {
  VMHOP_ASSIGN(auto made, create(std::move(socket), Role::kServer));
  made->lookup_ = std::move(lookup);
  if (certificates) {
    made->peer_names_ = certificates->files().peer_names;
    made->certificates_ = std::move(certificates);
    demand_certificates(made->ssl_.get());
  }
  SSL_set_psk_find_session_callback(made->ssl_.get(), PskCallbacks::server);
  SSL_set_accept_state(made->ssl_.get());
  return made;
}

Result<TlsHandshake::SessionPtr> TlsHandshake::make_session(ssl_st* ssl, const Secret& psk) {
  SessionPtr session(SSL_SESSION_new());
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, kCipherId.data());
  const auto* bytes = reinterpret_cast<const unsigned char*>(psk.bytes().data());
  if (session == nullptr || cipher == nullptr ||
      SSL_SESSION_set1_master_key(session.get(), bytes, Secret::kSize) != 1 ||
      SSL_SESSION_set_cipher(session.get(), cipher) != 1 ||
      SSL_SESSION_set_protocol_version(session.get(), TLS1_3_VERSION) != 1) {
    return Error("OpenSSL did not take the key for a handshake");
  }
  return session;
}

int TlsHandshake::fd() const {
  return bio_->fd();
}

Result<short> TlsHandshake::step() {
  if (progress_ == Progress::kHandshake) {
    VMHOP_ASSIGN(short events, shake());
    if (events != 0) return events;
    bool by_certificate = SSL_session_reused(ssl_.get()) != 1;
    progress_ = by_certificate ? Progress::kWelcome : Progress::kDone;
  }
  if (progress_ == Progress::kDone) return short{0};
  return is_client() ? await_welcome() : send_welcome();
}

Result<short> TlsHandshake::shake() {
  ERR_clear_error();
  int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    VMHOP_TRY(check_outcome());
    return short{0};
  }
  int error = SSL_get_error(ssl_.get(), result);
  if (error == SSL_ERROR_WANT_READ) return short{POLLIN};
  if (error == SSL_ERROR_WANT_WRITE) return short{POLLOUT};
  return explain(error);
}

std::unique_ptr<TlsStream> TlsHandshake::finish() {
  SSL_set_psk_use_session_callback(ssl_.get(), nullptr);
  SSL_set_psk_find_session_callback(ssl_.get(), nullptr);
  forget_certificates(ssl_.get());
  SSL_set_app_data(ssl_.get(), nullptr);
  // From now on one system call may read many records. Not before: bytes that come right behind
  // the handshake stay in the socket, where whoever polls the stream sees them.
  SSL_set_read_ahead(ssl_.get(), 1);
  return std::unique_ptr<TlsStream>(
      new TlsStream(std::move(bio_), std::move(ssl_), std::move(identity_)));
}

// That the handshake succeeded is not enough: it must have been this handshake.
Status TlsHandshake::check_outcome() {
  if (SSL_version(ssl_.get()) != TLS1_3_VERSION) return older_tls();
  bool by_key = SSL_session_reused(ssl_.get()) == 1;
  if (certificates_ && (is_client() || !by_key)) {
    if (by_key || !speaks_vmhop(ssl_.get())) return not_vmhop();
    identity_ = kCertificateSession;
    return check_certificates();
  }
  if (!by_key || identity_.empty()) {
    return refusedf("the other side did not prove that it has the key");
  }
  return ok_status();
}

Error TlsHandshake::explain(int ssl_error) const {
  unsigned long code = ERR_peek_error();
  if (ssl_error == SSL_ERROR_SYSCALL || ERR_GET_LIB(code) != ERR_LIB_SSL) {
    if (bio_->last_errno() != 0) {
      return Error(Error::from_errno("TLS handshake", bio_->last_errno()).message(),
                   ErrorKind::kClosed);
    }
  }
  if (rejection_) return *rejection_;
  if (certificates_ && (is_client() || identity_.empty())) {
    auto alert = explain_alert(ERR_GET_REASON(code), certificates_->files());
    if (alert) return *alert;
  }
  switch (ERR_GET_REASON(code)) {
    case SSL_R_BINDER_DOES_NOT_VERIFY:
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:  // what OpenSSL's server sends for it
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:      // what RFC 8446 asks for
      return wrong_key();
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY:
      return refusedf(
          "the other side does not expect this connection ('{}'). If it was given certificates "
          "(--tls-creds), this side needs some, too",
          identity_);
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
      if (unknown_identity_) return refusedf("nothing here expects the identity that it claimed");
      return refusedf(
          "it offered no pre-shared key: it was given certificates (--tls-creds) and this side was "
          "not, or it is no vmhop");
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return refusedf(
          "it presented no certificate, so it has none of this CA (--tls-creds), or is no vmhop");
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
      return older_tls();
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      return Error("the other side closed the connection during the TLS handshake",
                   ErrorKind::kClosed);
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_BAD_RECORD_TYPE:
      return not_vmhop();
    default: {
      const char* reason = ERR_reason_error_string(code);
      return refusedf(
          "the TLS handshake failed ({}). Check host and port, and that vmhop runs there",
          reason != nullptr ? reason : "no reason given");
    }
  }
}

}  // namespace vmhop

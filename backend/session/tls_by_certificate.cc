#include "backend/session/tls_by_certificate.h"

#include <openssl/err.h>
#include <poll.h>

#include <string_view>

#include "backend/session/certificate_errors.h"
#include "backend/session/identity.h"
#include "backend/session/socket_bio.h"
#include "backend/session/tls_handshake.h"

namespace vmhop {
namespace {

constexpr unsigned char kWelcome = 1;

// As TLS has it: a length before each name.
std::string protocol_list() {
  std::string list(1, static_cast<char>(kCertificateSession.size()));
  return list.append(kCertificateSession);
}

}  // namespace

// What OpenSSL calls while it shakes hands.
struct CertificateCallbacks {
  static TlsHandshake& self(SSL* ssl) { return *static_cast<TlsHandshake*>(SSL_get_app_data(ssl)); }

  // After it has looked for a pre-shared key, and before it would choose a certificate. Without one
  // the handshake fails: whoever offered a key that is not welcome is not let in by other means.
  static int present(SSL* ssl, void* /*unused*/) {
    TlsHandshake& handshake = self(ssl);
    if (handshake.unknown_identity_ || !handshake.identity_.empty()) return 1;
    return handshake.certificates_->use_for(ssl, handshake.peer_names_, verify).ok() ? 1 : 0;
  }

  // For each certificate of the chain, the CA's first; again for each thing that is wrong.
  static int verify(int good, X509_STORE_CTX* context) {
    auto* ssl = static_cast<SSL*>(
        X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()));
    TlsHandshake& handshake = self(ssl);
    if (good != 1) {
      handshake.rejection_ = explain_rejection(context, examine(handshake, context));
      return 0;
    }
    if (X509_STORE_CTX_get_error_depth(context) > 0) return 1;
    Examined examined = examine(handshake, context);
    // OpenSSL is content with a certificate that says nothing of its purpose, or everything.
    if (has_purpose_of(X509_STORE_CTX_get0_cert(context), examined.role)) return 1;
    X509_STORE_CTX_set_error(context, X509_V_ERR_INVALID_PURPOSE);
    handshake.rejection_ = wrong_purpose(examined);
    return 0;
  }

  static Examined examine(const TlsHandshake& handshake, X509_STORE_CTX* context) {
    Examined examined = handshake.examined();
    examined.what += " (" + subject_of(X509_STORE_CTX_get0_cert(context)) + ")";
    return examined;
  }

  static int select(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_size,
                    const unsigned char* offered, unsigned int offered_size, void* /*unused*/) {
    if (!self(ssl).certificates_) return SSL_TLSEXT_ERR_NOACK;
    static const std::string ours = protocol_list();
    unsigned char* found = nullptr;
    if (SSL_select_next_proto(&found, chosen_size,
                              reinterpret_cast<const unsigned char*>(ours.data()),
                              static_cast<unsigned int>(ours.size()), offered,
                              offered_size) != OPENSSL_NPN_NEGOTIATED) {
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
  }
};

Status offer_certificates(SSL* ssl, const Certificates& certificates,
                          const std::vector<std::string>& names) {
  std::string list = protocol_list();
  // 0 is success here.
  if (SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(list.data()),
                          static_cast<unsigned int>(list.size())) != 0) {
    return Error("OpenSSL has no memory for a connection");
  }
  return certificates.use_for(ssl, names, CertificateCallbacks::verify);
}

void demand_certificates(SSL* ssl) {
  SSL_set_cert_cb(ssl, CertificateCallbacks::present, nullptr);
}

void select_certificate_sessions(SSL_CTX* context) {
  SSL_CTX_set_alpn_select_cb(context, CertificateCallbacks::select, nullptr);
}

bool speaks_vmhop(SSL* ssl) {
  const unsigned char* name = nullptr;
  unsigned int size = 0;
  SSL_get0_alpn_selected(ssl, &name, &size);
  return std::string_view(reinterpret_cast<const char*>(name), size) == kCertificateSession;
}

void forget_certificates(SSL* ssl) {
  SSL_set_cert_cb(ssl, nullptr, nullptr);
  SSL_set_verify(ssl, SSL_get_verify_mode(ssl), nullptr);
}

Examined TlsHandshake::examined() const {
  return {is_client() ? "the destination's certificate" : "the source's certificate",
          &certificates_->files(), is_client() ? SessionRole::kDestination : SessionRole::kSource,
          peer_names_};
}

// OpenSSL has seen to it already. What everything hangs on is looked up, though, not concluded.
Status TlsHandshake::check_certificates() const {
  X509* other = SSL_get0_peer_certificate(ssl_.get());
  if (other == nullptr || SSL_get_verify_result(ssl_.get()) != X509_V_OK || rejection_) {
    return rejection_.value_or(refusedf("the other side did not prove who it is"));
  }
  Examined examined = this->examined();
  if (!has_purpose_of(other, examined.role)) return wrong_purpose(examined);
  return ok_status();
}

Result<short> TlsHandshake::send_welcome() {
  if (progress_ == Progress::kWelcome) {
    size_t put = 0;
    ERR_clear_error();
    int result = SSL_write_ex(ssl_.get(), &kWelcome, 1, &put);
    if (result != 1) return explain(SSL_get_error(ssl_.get(), result));
    progress_ = Progress::kFlush;
  }
  VMHOP_ASSIGN(bool sent, bio_->flush());
  if (!sent) return short{POLLOUT};
  progress_ = Progress::kDone;
  return short{0};
}

// The refusal of this side's certificate comes in its place.
Result<short> TlsHandshake::await_welcome() {
  unsigned char byte = 0;
  size_t got = 0;
  ERR_clear_error();
  int result = SSL_read_ex(ssl_.get(), &byte, 1, &got);
  if (result != 1) {
    int error = SSL_get_error(ssl_.get(), result);
    if (error == SSL_ERROR_WANT_READ) return short{POLLIN};
    if (error == SSL_ERROR_WANT_WRITE) return short{POLLOUT};
    if (error == SSL_ERROR_ZERO_RETURN) {
      return Error("the other side closed the connection", ErrorKind::kClosed);
    }
    return explain(error);
  }
  if (byte != kWelcome) return refusedf("what answers there does not speak vmhop's protocol");
  progress_ = Progress::kDone;
  return short{0};
}

}  // namespace vmhop

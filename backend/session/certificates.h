// X.509 certificates, the alternative to the shared key: each side has one that a common
// certificate authority has signed, in the directory layout of QEMU and libvirt
// (certificate_directory.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/secret_memory.h"

struct evp_pkey_st;
struct ssl_st;
struct stack_st_X509;
struct x509_st;
struct x509_store_ctx_st;
struct x509_store_st;

namespace vmhop {

// The source is TLS's client, the destination its server. A certificate is good for one of the two,
// by its extended key usage, so that no key speaks in both roles.
enum class SessionRole : uint8_t { kSource = 1, kDestination = 2 };

// What one side's files hold, in PEM. It goes from process to process like this: only who makes
// sessions takes the key apart.
struct CertificateFiles {
  SessionRole role = SessionRole::kSource;
  std::string directory;    // for messages
  std::string authorities;  // ca-cert.pem
  std::string certificate;  // client-cert.pem or server-cert.pem, perhaps with CAs between
  std::string revocations;  // ca-crl.pem; empty when there is none
  SecretText key;           // client-key.pem or server-key.pem
  // The other side's certificate has to be for one of these. None: at the source for the host that
  // it dials, at the destination for anybody.
  std::vector<std::string> peer_names;

  std::string path(const char* name) const { return directory + "/" + name; }
  std::string certificate_path() const;
  std::string key_path() const;
};

// Calls back as OpenSSL wants it, for each certificate: see SSL_set_verify().
using VerifyCallback = int (*)(int good, x509_store_ctx_st* store);

// Immutable: any thread may use it.
class Certificates {
 public:
  // kRefused for what is no certificate or key, or does not fit together.
  static Result<Certificates> parse(std::shared_ptr<const CertificateFiles> files);

  const CertificateFiles& files() const { return *files_; }

  // That the other side will accept this side's, as far as it can be known here: signed by the CA,
  // valid now, not revoked, for this role.
  Status check() const;
  // When this side's ceases to be valid, if that is within a day.
  std::optional<std::string> expires_soon() const;

  // Makes this side of `ssl` prove who it is with these, and the other side do the same: with a
  // certificate of the CA for one of `names`. (A source has one, a destination with none takes
  // anybody's.) `callback` hears of each of its certificates.
  Status use_for(ssl_st* ssl, const std::vector<std::string>& names, VerifyCallback callback) const;

 private:
  struct Free {
    void operator()(x509_st* certificate) const;
    void operator()(stack_st_X509* chain) const;
    void operator()(evp_pkey_st* key) const;
    void operator()(x509_store_st* store) const;
  };
  Certificates() = default;
  Status read_authorities();
  Status read_own();
  Status read_key();

  std::shared_ptr<const CertificateFiles> files_;
  std::unique_ptr<x509_st, Free> own_;
  std::unique_ptr<stack_st_X509, Free> chain_;  // from own_ to the CA, both left out
  std::unique_ptr<evp_pkey_st, Free> key_;
  std::unique_ptr<x509_store_st, Free> authorities_;
};

// Whether a certificate is for this role, and for this one only.
bool has_purpose_of(x509_st* certificate, SessionRole role);

}  // namespace vmhop

#include "backend/session/certificates.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>

#include "backend/session/certificate_errors.h"

namespace vmhop {
namespace {

// From a certificate to its CA: two authorities between them are many.
constexpr int kMaxDepth = 8;
// What the other side's may take, all together.
constexpr long kMaxCertificates = 64 * 1024;
// 112 bits: RSA of 2048 bits and more, and no SHA-1.
constexpr int kSecurityLevel = 2;

struct BioFree {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509_CRL* list) const { X509_CRL_free(list); }
  void operator()(X509_STORE_CTX* context) const { X509_STORE_CTX_free(context); }
};
template <typename T>
using Owned = std::unique_ptr<T, BioFree>;

Owned<BIO> reader_of(std::string_view text) {
  return Owned<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// In place of the question on the terminal that OpenSSL would ask.
int note_passphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* wanted) {
  *static_cast<bool*>(wanted) = true;
  return -1;
}

// Whether reading one more object met the end of the text, and not something broken.
bool at_end_of_pem() {
  unsigned long code = ERR_peek_last_error();
  bool end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  return end;
}

Error no_memory() {
  return Error("OpenSSL has no memory for certificates");
}

const char* purpose_name(SessionRole role) {
  return role == SessionRole::kSource ? "ssl_client" : "ssl_server";
}

// What holds for this side's certificates and the other's alike.
void set_rules(X509_VERIFY_PARAM* rules, bool with_revocations) {
  unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN;  // all of ca-cert.pem is trusted, as in QEMU
  if (with_revocations) flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
  X509_VERIFY_PARAM_set_flags(rules, flags);
  X509_VERIFY_PARAM_set_depth(rules, kMaxDepth);
  X509_VERIFY_PARAM_set_auth_level(rules, kSecurityLevel);
}

// Of a host that is dialed: its name or its address, which may come with an interface's
// ("fe80::1%eth0").
bool expect_host(X509_VERIFY_PARAM* rules, const std::string& name) {
  std::string address = name.substr(0, name.find('%'));
  ERR_set_mark();
  bool numeric = X509_VERIFY_PARAM_set1_ip_asc(rules, address.c_str()) == 1;
  ERR_pop_to_mark();
  return numeric || X509_VERIFY_PARAM_set1_host(rules, name.data(), name.size()) == 1;
}

bool set_names(X509_VERIFY_PARAM* rules, SessionRole mine, const std::vector<std::string>& names) {
  if (mine == SessionRole::kSource) {
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return names.size() == 1 && expect_host(rules, names[0]);
  }
  X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_WILDCARDS);
  return std::all_of(names.begin(), names.end(), [rules](const std::string& name) {
    return X509_VERIFY_PARAM_add1_host(rules, name.data(), name.size()) == 1;
  });
}

}  // namespace

std::string CertificateFiles::certificate_path() const {
  return path(role == SessionRole::kSource ? "client-cert.pem" : "server-cert.pem");
}

std::string CertificateFiles::key_path() const {
  return path(role == SessionRole::kSource ? "client-key.pem" : "server-key.pem");
}

void Certificates::Free::operator()(x509_st* certificate) const {
  X509_free(certificate);
}
void Certificates::Free::operator()(stack_st_X509* chain) const {
  sk_X509_pop_free(chain, X509_free);
}
void Certificates::Free::operator()(evp_pkey_st* key) const {
  EVP_PKEY_free(key);
}
void Certificates::Free::operator()(x509_store_st* store) const {
  X509_STORE_free(store);
}

bool has_purpose_of(x509_st* certificate, SessionRole role) {
  uint32_t wanted = role == SessionRole::kSource ? XKU_SSL_CLIENT : XKU_SSL_SERVER;
  uint32_t usage = X509_get_extended_key_usage(certificate);
  bool named = (X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE) != 0;
  return named && (usage & (XKU_SSL_CLIENT | XKU_SSL_SERVER | XKU_ANYEKU)) == wanted;
}

Result<Certificates> Certificates::parse(std::shared_ptr<const CertificateFiles> files) {
  Certificates made;
  made.files_ = std::move(files);
  ERR_clear_error();
  VMHOP_TRY(made.read_authorities());
  VMHOP_TRY(made.read_own());
  VMHOP_TRY(made.read_key());
  return made;
}

Status Certificates::read_authorities() {
  authorities_.reset(X509_STORE_new());
  if (!authorities_) return no_memory();
  std::string path = files_->path("ca-cert.pem");
  auto reader = reader_of(files_->authorities);
  int count = 0;
  while (
      std::unique_ptr<X509, Free> one{PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr)}) {
    if (X509_check_ca(one.get()) == 0) {
      return refusedf(
          "{} has a certificate of no certificate authority ({}): whoever had its key could sign "
          "others. Put only the CA's there",
          path, subject_of(one.get()));
    }
    if (X509_STORE_add_cert(authorities_.get(), one.get()) != 1) return no_memory();
    ++count;
  }
  if (!at_end_of_pem() || count == 0) {
    return refusedf("{} has no certificate in PEM (-----BEGIN CERTIFICATE-----), or a broken one",
                    path);
  }
  if (files_->revocations.empty()) return ok_status();

  reader = reader_of(files_->revocations);
  count = 0;
  while (Owned<X509_CRL> one{PEM_read_bio_X509_CRL(reader.get(), nullptr, nullptr, nullptr)}) {
    if (X509_STORE_add_crl(authorities_.get(), one.get()) != 1) return no_memory();
    ++count;
  }
  if (!at_end_of_pem() || count == 0) {
    return refusedf(
        "{} has no list of revoked certificates in PEM (-----BEGIN X509 CRL-----), or a broken "
        "one. Without lists, remove the file",
        files_->path("ca-crl.pem"));
  }
  return ok_status();
}

Status Certificates::read_own() {
  auto reader = reader_of(files_->certificate);
  own_.reset(PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr));
  chain_.reset(sk_X509_new_null());
  if (!chain_) return no_memory();
  while (std::unique_ptr<X509, Free> one{
      own_ ? PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr) : nullptr}) {
    if (sk_X509_push(chain_.get(), one.get()) == 0) return no_memory();
    (void)one.release();
  }
  if (own_ == nullptr || !at_end_of_pem()) {
    return refusedf("{} has no certificate in PEM (-----BEGIN CERTIFICATE-----), or a broken one",
                    files_->certificate_path());
  }
  return ok_status();
}

Status Certificates::read_key() {
  auto reader = reader_of(files_->key.view());
  bool wants_passphrase = false;
  key_.reset(PEM_read_bio_PrivateKey(reader.get(), nullptr, note_passphrase, &wants_passphrase));
  ERR_clear_error();
  std::string path = files_->key_path();
  if (wants_passphrase) {
    return refusedf(
        "the key {} is protected by a passphrase, which vmhop cannot ask for: store it without "
        "('openssl pkey -in {}'), with mode 0600",
        path, path);
  }
  if (!key_) return refusedf("{} has no private key in PEM, or a broken one", path);
  bool fits = X509_check_private_key(own_.get(), key_.get()) == 1;
  ERR_clear_error();
  if (!fits) {
    return refusedf("{} is not the key of {}: they were made one without the other", path,
                    files_->certificate_path());
  }
  return ok_status();
}

Status Certificates::check() const {
  Examined examined{files_->certificate_path(), files_.get(), files_->role, {}};
  Owned<X509_STORE_CTX> context(X509_STORE_CTX_new());
  if (!context ||
      X509_STORE_CTX_init(context.get(), authorities_.get(), own_.get(), chain_.get()) != 1) {
    return no_memory();
  }
  X509_STORE_CTX_set_default(context.get(), purpose_name(files_->role));
  set_rules(X509_STORE_CTX_get0_param(context.get()), !files_->revocations.empty());
  bool good = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  if (!good) return explain_rejection(context.get(), examined);
  if (!has_purpose_of(own_.get(), files_->role)) return wrong_purpose(examined);
  return ok_status();
}

std::optional<std::string> Certificates::expires_soon() const {
  constexpr long kDay = 24L * 3600;
  time_t tomorrow = ::time(nullptr) + kDay;
  if (X509_cmp_time(X509_get0_notAfter(own_.get()), &tomorrow) > 0) return std::nullopt;
  return time_text(X509_get0_notAfter(own_.get()));
}

Status Certificates::use_for(ssl_st* ssl, const std::vector<std::string>& names,
                             VerifyCallback callback) const {
  SSL_set_security_level(ssl, kSecurityLevel);
  SSL_set_mode(ssl, SSL_MODE_NO_AUTO_CHAIN);
  SSL_set_max_cert_list(ssl, kMaxCertificates);
  X509_VERIFY_PARAM* rules = SSL_get0_param(ssl);
  set_rules(rules, !files_->revocations.empty());
  bool good = set_names(rules, files_->role, names) && SSL_use_certificate(ssl, own_.get()) == 1 &&
              SSL_set1_chain(ssl, chain_.get()) == 1 && SSL_use_PrivateKey(ssl, key_.get()) == 1 &&
              SSL_set1_verify_cert_store(ssl, authorities_.get()) == 1;
  if (!good) {
    const char* reason = ERR_reason_error_string(ERR_peek_error());
    return errorf("OpenSSL did not take {} for a session: {}", files_->certificate_path(),
                  reason != nullptr ? reason : "it gives no reason");
  }
  SSL_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, callback);
  return ok_status();
}

}  // namespace vmhop

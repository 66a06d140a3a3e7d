// A certificate authority for tests, made of OpenSSL.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/session/certificates.h"

namespace vmhop::testing_support {

struct OpensslFree {
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(X509_CRL* list) const { X509_CRL_free(list); }
  void operator()(X509_EXTENSION* extension) const { X509_EXTENSION_free(extension); }
  void operator()(X509_REVOKED* revoked) const { X509_REVOKED_free(revoked); }
  void operator()(ASN1_TIME* time) const { ASN1_TIME_free(time); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(BIO* bio) const { BIO_free(bio); }
};
template <typename T>
using Openssl = std::unique_ptr<T, OpensslFree>;

inline constexpr long kHour = 3600;
inline constexpr long kYear = 365L * 24 * kHour;

struct Wish {
  std::string name = "host";     // common name
  std::string alternative = "";  // "DNS:host-a,IP:10.0.0.1"
  std::string purpose = "";      // "clientAuth"; empty: says nothing
  long from = -kHour;            // seconds from now
  long until = kYear;
  std::string basic = "critical,CA:FALSE";  // basicConstraints
  EVP_PKEY* (*make_key)() = [] { return EVP_EC_gen("P-256"); };
};

inline Wish a_source() {
  return {.name = "host-a", .alternative = "DNS:host-a", .purpose = "clientAuth"};
}
inline Wish a_destination() {
  return {.name = "host-b", .alternative = "DNS:host-b,IP:127.0.0.1", .purpose = "serverAuth"};
}

inline std::string text_in(BIO* bio) {
  char* bytes = nullptr;
  long size = BIO_get_mem_data(bio, &bytes);
  return {bytes, static_cast<size_t>(size)};
}

// A certificate with its key.
struct Issued {
  Openssl<X509> certificate;
  Openssl<EVP_PKEY> key;

  std::string pem() const {
    Openssl<BIO> out(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509(out.get(), certificate.get());
    return text_in(out.get());
  }
  std::string key_pem(const char* passphrase = nullptr) const {
    Openssl<BIO> out(BIO_new(BIO_s_mem()));
    PEM_write_bio_PKCS8PrivateKey(out.get(), key.get(), passphrase ? EVP_aes_128_cbc() : nullptr,
                                  nullptr, 0, nullptr, const_cast<char*>(passphrase));
    return text_in(out.get());
  }
};

class Authority {
 public:
  static Wish root(const std::string& name = "CA") {
    return {.name = name, .basic = "critical,CA:TRUE"};
  }

  explicit Authority(const Wish& wish = root()) : self_(make(wish, nullptr)) {}
  // One that this one has signed.
  Authority subordinate(const Wish& wish) const { return Authority(make(wish, &self_)); }

  std::string pem() const { return self_.pem(); }
  Issued issue(const Wish& wish) const { return make(wish, &self_); }

  // A list of what it has revoked, good from an hour ago until `until` seconds from now.
  std::string revoke(const std::vector<const Issued*>& revoked, long until = kYear) const {
    Openssl<X509_CRL> list(X509_CRL_new());
    X509_CRL_set_version(list.get(), X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(self_.certificate.get()));
    Openssl<ASN1_TIME> from(X509_gmtime_adj(nullptr, -2 * kHour));
    Openssl<ASN1_TIME> next(X509_gmtime_adj(nullptr, until));
    X509_CRL_set1_lastUpdate(list.get(), from.get());
    X509_CRL_set1_nextUpdate(list.get(), next.get());
    for (const Issued* one : revoked) {
      Openssl<X509_REVOKED> entry(X509_REVOKED_new());
      X509_REVOKED_set_serialNumber(entry.get(), X509_get_serialNumber(one->certificate.get()));
      X509_REVOKED_set_revocationDate(entry.get(), from.get());
      X509_CRL_add0_revoked(list.get(), entry.release());
    }
    EXPECT_GT(X509_CRL_sign(list.get(), self_.key.get(), EVP_sha256()), 0);
    Openssl<BIO> out(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509_CRL(out.get(), list.get());
    return text_in(out.get());
  }

 private:
  explicit Authority(Issued self) : self_(std::move(self)) {}

  static void extend(X509* certificate, X509* issuer, int kind, const std::string& value) {
    if (value.empty()) return;
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    Openssl<X509_EXTENSION> extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
    ASSERT_TRUE(extension) << value;
    ASSERT_EQ(X509_add_ext(certificate, extension.get(), -1), 1);
  }

  static Issued make(const Wish& wish, const Issued* issuer) {
    static long serial = 0;
    Issued made{Openssl<X509>(X509_new()), Openssl<EVP_PKEY>(wish.make_key())};
    X509* certificate = made.certificate.get();
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), wish.from);
    X509_gmtime_adj(X509_getm_notAfter(certificate), wish.until);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(wish.name.c_str()), -1, -1,
                               0);
    X509* signer = issuer != nullptr ? issuer->certificate.get() : certificate;
    EVP_PKEY* key = issuer != nullptr ? issuer->key.get() : made.key.get();
    X509_set_issuer_name(certificate, X509_get_subject_name(signer));
    X509_set_pubkey(certificate, made.key.get());
    extend(certificate, signer, NID_basic_constraints, wish.basic);
    extend(certificate, signer, NID_subject_alt_name, wish.alternative);
    extend(certificate, signer, NID_ext_key_usage, wish.purpose);
    bool digests_itself = EVP_PKEY_is_a(key, "ED25519") == 1;
    EXPECT_GT(X509_sign(certificate, key, digests_itself ? nullptr : EVP_sha256()), 0);
    return made;
  }

  Issued self_;
};

// What load_certificates() would have read, without its checks: a peer may not have made any.
inline std::shared_ptr<CertificateFiles> files_of(SessionRole role, const std::string& authorities,
                                                  const Issued& own,
                                                  const std::string& revocations = "") {
  auto files = std::make_shared<CertificateFiles>();
  files->role = role;
  files->directory = role == SessionRole::kSource ? "/at/source" : "/at/destination";
  files->authorities = authorities;
  files->certificate = own.pem();
  files->revocations = revocations;
  std::string key = own.key_pem();
  files->key = SecretText(key.size());
  std::copy(key.begin(), key.end(), reinterpret_cast<char*>(files->key.bytes().data()));
  return files;
}

}  // namespace vmhop::testing_support

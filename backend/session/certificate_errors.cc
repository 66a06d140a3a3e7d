#include "backend/session/certificate_errors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>

namespace vmhop {
namespace {

constexpr size_t kMaxText = 256;
constexpr int kMaxNames = 8;

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};

std::string content_of(BIO* bio) {
  char* bytes = nullptr;
  long size = BIO_get_mem_data(bio, &bytes);
  std::string text(bytes, size > 0 ? static_cast<size_t>(size) : 0);
  if (text.size() > kMaxText) text.replace(kMaxText, std::string::npos, "…");
  // It may be a stranger's.
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; }, '?');
  return text;
}

// Whom it is for: its alternative names, or its common name if it has none.
std::string names_of(X509* certificate) {
  std::unique_ptr<GENERAL_NAMES, Free> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  if (!names) return subject_of(certificate);
  std::unique_ptr<BIO, Free> out(BIO_new(BIO_s_mem()));
  for (int i = 0; i < std::min(sk_GENERAL_NAME_num(names.get()), kMaxNames); ++i) {
    if (i > 0) BIO_puts(out.get(), ", ");
    GENERAL_NAME_print(out.get(), sk_GENERAL_NAME_value(names.get(), i));
  }
  return content_of(out.get());
}

Error expired(const Examined& examined, X509* certificate, int depth) {
  std::string when = time_text(X509_get0_notAfter(certificate));
  if (depth == 0) {
    return refusedf("{} expired on {}. Have the CA sign a new one", examined.what, when);
  }
  return refusedf("the CA's certificate {}, which {} depends on, expired on {}. Renew it",
                  subject_of(certificate), examined.what, when);
}

Error wrong_name(const Examined& examined, X509* certificate) {
  std::string wanted = fmt::format("{}", fmt::join(examined.names, ", "));
  if (examined.role == SessionRole::kDestination) {
    return refusedf(
        "{} is for {}, not for {}. Dial it by a name that it is for, have one made for this one "
        "(subjectAltName), or say whom to expect: --tls-hostname NAME",
        examined.what, names_of(certificate), wanted);
  }
  return refusedf("{} is for {}: only {} may send VMs here (--tls-authz)", examined.what,
                  names_of(certificate), wanted);
}

Error unknown_authority(const Examined& examined) {
  return refusedf(
      "{} is not signed by the CA in {}. Both hosts need certificates of one CA, and its "
      "certificate as ca-cert.pem",
      examined.what, examined.held_against->path("ca-cert.pem"));
}

Error list_trouble(const Examined& examined, const char* trouble) {
  return refusedf("{} {}, so {} cannot be checked. Get the latest from the CA, and start anew",
                  examined.held_against->path("ca-crl.pem"), trouble, examined.what);
}

}  // namespace

Error wrong_purpose(const Examined& examined) {
  bool source = examined.role == SessionRole::kSource;
  return refusedf(
      "{} is not for a {}: it has to have the extended key usage {}, and not {}. Have one made for "
      "each role",
      examined.what, source ? "source" : "destination", source ? "clientAuth" : "serverAuth",
      source ? "serverAuth" : "clientAuth");
}

Error explain_rejection(X509_STORE_CTX* context, const Examined& examined) {
  int code = X509_STORE_CTX_get_error(context);
  X509* certificate = X509_STORE_CTX_get_current_cert(context);
  if (certificate == nullptr) certificate = X509_STORE_CTX_get0_cert(context);
  switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return expired(examined, certificate, X509_STORE_CTX_get_error_depth(context));
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return refusedf("{} is valid only from {}: look at the clocks of both hosts", examined.what,
                      time_text(X509_get0_notBefore(certificate)));
    case X509_V_ERR_INVALID_PURPOSE:
      return wrong_purpose(examined);
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return wrong_name(examined, certificate);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
      return unknown_authority(examined);
    case X509_V_ERR_CERT_REVOKED:
      return refusedf("{} was revoked by its CA, says {}", examined.what,
                      examined.held_against->path("ca-crl.pem"));
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
      return list_trouble(examined, "has no list of every CA that was involved");
    case X509_V_ERR_CRL_HAS_EXPIRED:
      return list_trouble(examined, "has expired");
    case X509_V_ERR_CRL_NOT_YET_VALID:
      return list_trouble(examined, "is not valid yet by this host's clock");
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
      return list_trouble(examined, "is not signed by the CA");
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
      return refusedf(
          "{} relies on a key or a signature that is too weak: RSA needs 2048 bits, and SHA-1 is "
          "none any more",
          examined.what);
    default:
      return refusedf("{} was not accepted: {}", examined.what,
                      X509_verify_cert_error_string(code));
  }
}

std::optional<Error> explain_alert(int reason, const CertificateFiles& own) {
  std::string mine = own.certificate_path();
  switch (reason) {
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
      return refusedf(
          "the other side does not know the CA of {}. Both hosts need certificates of one CA, and "
          "its certificate as ca-cert.pem",
          mine);
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
      return refusedf(
          "to the other side {} has expired, or is not valid yet: look at the clocks of both hosts",
          mine);
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
      return refusedf("the other side knows that {} was revoked", mine);
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
      return refusedf("to the other side {} is not for this role (extended key usage)", mine);
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
      return refusedf("the other side does not accept {}; its log says why", mine);
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
      return refusedf("the other side can do nothing with {}; its log says why", mine);
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
      return refusedf(
          "the other side takes no certificates: it was given a key and no --tls-creds, or it is "
          "no vmhop. Give both sides the same");
    default:
      return std::nullopt;
  }
}

std::string subject_of(X509* certificate) {
  std::unique_ptr<BIO, Free> out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  std::string text = content_of(out.get());
  return text.empty() ? "one without a name" : text;
}

std::string time_text(const ASN1_TIME* time) {
  std::unique_ptr<BIO, Free> out(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(out.get(), time);
  return content_of(out.get());
}

}  // namespace vmhop

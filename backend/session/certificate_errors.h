// What is wrong with a certificate, and what to do about it.
#pragma once

#include <openssl/x509.h>

#include <optional>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/certificates.h"

namespace vmhop {

// A certificate that is looked at, this side's own or the other's.
struct Examined {
  std::string what;  // "/etc/vmhop/tls/server-cert.pem", "the source's certificate"
  const CertificateFiles* held_against = nullptr;  // whose CA and lists decide
  SessionRole role = SessionRole::kSource;         // that it has to be for
  std::vector<std::string> names;  // one of which it has to be for, if there are any
};

// Why OpenSSL's verification said no.
Error explain_rejection(X509_STORE_CTX* context, const Examined& examined);
Error wrong_purpose(const Examined& examined);
// What the other side's alert says about this side's certificate; nothing if it is about something
// else.
std::optional<Error> explain_alert(int reason, const CertificateFiles& own);

// For messages: printable whatever is in the certificate, and not long.
std::string subject_of(X509* certificate);
std::string time_text(const ASN1_TIME* time);

}  // namespace vmhop

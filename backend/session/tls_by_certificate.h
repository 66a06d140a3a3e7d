// What a session by certificates adds to a TLS handshake; for TlsHandshake alone, whose object is
// the ssl's app data.
#pragma once

#include <openssl/ssl.h>

#include <string>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/certificates.h"

namespace vmhop {

// The client's part: this side's certificate, and who has to be at the other end.
Status offer_certificates(SSL* ssl, const Certificates& certificates,
                          const std::vector<std::string>& names);
// The server's: presents and demands certificates when the client has offered no pre-shared key.
void demand_certificates(SSL* ssl);
// Has servers answer clients that want a session by certificates, and nobody who wants another
// protocol: one CA may serve several.
void select_certificate_sessions(SSL_CTX* context);
bool speaks_vmhop(SSL* ssl);
// Takes away what would call back.
void forget_certificates(SSL* ssl);

}  // namespace vmhop

// Certificates in the directory layout of QEMU's tls-creds-x509 and of libvirt:
//
//   ca-cert.pem                       the CA (or several), whom both sides trust
//   ca-crl.pem                        optional: what the CA has revoked
//   client-cert.pem, client-key.pem   of a source
//   server-cert.pem, server-key.pem   of a destination
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/certificates.h"

namespace vmhop {

// Reads and checks what `role` needs, before anything is started. kRefused names the file, and what
// to do. The key is only looked into by a process that ends at once and leaves no core: OpenSSL
// leaves copies of what it parses. Not beside a thread that uses OpenSSL: it
// would be copied in the middle of it.
Result<std::shared_ptr<const CertificateFiles>> load_certificates(
    const std::string& directory, SessionRole role, std::vector<std::string> peer_names);

}  // namespace vmhop

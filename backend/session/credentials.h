// What the two ends of a session prove who they are with: a key that both have, or certificates.
// A session is by one or the other, as this side was told: neither is ever taken in place of the
// other.
#pragma once

#include <memory>
#include <utility>

#include "backend/session/certificates.h"
#include "backend/session/key.h"

namespace vmhop {

// Copies share the secret, which nobody changes; it is overwritten with the last of them.
class Credentials {
 public:
  // NOLINTBEGIN(google-explicit-constructor): a key or certificates are credentials.
  Credentials(Secret key) : key_(std::make_shared<const Secret>(std::move(key))) {}
  Credentials(std::shared_ptr<const CertificateFiles> certificates)
      : certificates_(std::move(certificates)) {}
  // NOLINTEND(google-explicit-constructor)

  // One of the two is there.
  const Secret* key() const { return key_.get(); }
  const std::shared_ptr<const CertificateFiles>& certificates() const { return certificates_; }

 private:
  std::shared_ptr<const Secret> key_;
  std::shared_ptr<const CertificateFiles> certificates_;
};

}  // namespace vmhop

#include "cli/credentials_choice.h"

#include <filesystem>

#include "backend/session/certificate_directory.h"

namespace vmhop {
namespace {

std::string absolute_path(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).string();
}

}  // namespace

Result<Credentials> load_credentials(const CredentialsChoice& choice, SessionRole role) {
  if (!choice.tls_creds.empty()) {
    VMHOP_ASSIGN(auto files, load_certificates(choice.tls_creds, role, choice.tls_names));
    return Credentials(std::move(files));
  }
  if (!choice.tls_names.empty()) {
    return refusedf(
        "{} is about certificates, and there are none: a key is used. Say where they are "
        "(--tls-creds DIR)",
        role == SessionRole::kSource ? "--tls-hostname" : "--tls-authz");
  }
  VMHOP_ASSIGN(Secret key, load_key(choice.key_path));
  return Credentials(std::move(key));
}

CredentialsChoice absolute(const CredentialsChoice& choice) {
  return {absolute_path(choice.key_path), absolute_path(choice.tls_creds), choice.tls_names};
}

}  // namespace vmhop

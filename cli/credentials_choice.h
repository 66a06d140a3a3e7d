// Where the credentials of this host are, as options, the configuration file and records say.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/credentials.h"

namespace vmhop {

struct CredentialsChoice {
  std::string key_path;                     // the file of the key that both hosts share, unless
  std::string tls_creds = {};               // this is a directory of certificates
  std::vector<std::string> tls_names = {};  // whom the other side's certificate has to be for
  bool operator==(const CredentialsChoice&) const = default;
  bool empty() const { return key_path.empty() && tls_creds.empty(); }
};

inline void to_json(nlohmann::json& body, const CredentialsChoice& choice) {
  body = {
      {"key", choice.key_path}, {"tls_creds", choice.tls_creds}, {"tls_names", choice.tls_names}};
}

inline void from_json(const nlohmann::json& body, CredentialsChoice& choice) {
  choice.key_path = body.value("key", "");
  choice.tls_creds = body.value("tls_creds", "");
  choice.tls_names = body.value("tls_names", std::vector<std::string>());
}

// kRefused says what is wrong with them, and what to do. Not beside a thread that uses OpenSSL.
Result<Credentials> load_credentials(const CredentialsChoice& choice, SessionRole role);
// With paths that mean the same from elsewhere: for records.
CredentialsChoice absolute(const CredentialsChoice& choice);

}  // namespace vmhop

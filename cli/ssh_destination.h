// Where `vmhop relocate NAME ssh://[USER@]HOST[:PORT]` leads, and how ssh is called for it. Pure
// functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/tcp.h"

namespace vmhop {

struct SshDestination {
  std::string user;   // empty: as ssh decides
  std::string host;   // as ssh is to know it: a name, an address (IPv6 without brackets), an alias
  uint16_t port = 0;  // 0: as ssh decides
  bool operator==(const SshDestination&) const = default;
};

bool is_ssh_destination(std::string_view text);
Result<SshDestination> parse_ssh_destination(std::string_view text);

// "HOST", "HOST:PORT" or ":PORT": where the destination is dialed; what is left out is empty or 0.
Result<HostPort> parse_data_address(std::string_view text);

// The words of a command line, as a shell would split it: blanks, quotes and backslashes count and
// nothing else does.
Result<std::vector<std::string>> split_words(std::string_view text);

// What to execute: `ssh`, the words of a command, with what makes it fail rather than ask or hang,
// to run `remote_command` there. Options that `ssh` has already go before these.
Result<std::vector<std::string>> ssh_arguments(const std::string& ssh, const SshDestination& there,
                                               const std::string& remote_command);

}  // namespace vmhop

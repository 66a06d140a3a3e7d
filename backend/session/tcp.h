// TCP sockets as vmhop uses them: non-blocking, close-on-exec, no delay, and with a peer that
// vanished noticed within half a minute. From any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

struct HostPort {
  std::string host;  // empty: every address (listening only)
  uint16_t port = 0;
  bool operator==(const HostPort&) const = default;
  // "host:4000", "[::1]:4000", ":4000"
  std::string to_string() const;
};

// Reads "name:4000", "10.0.0.2:4000", "[::1]:4000" and ":4000" (every address).
Result<HostPort> parse_host_port(std::string_view text);

// Tries every address of `peer.host` in turn within `timeout_ms`. kRefused: nobody listens there;
// kTimedOut: no answer in time. (The time a name server takes comes on top.)
Result<UniqueFd> connect_tcp(const HostPort& peer, int timeout_ms);

// An empty host listens on every address of IPv6 and IPv4; port 0 takes a free one.
Result<UniqueFd> listen_tcp(const HostPort& local);

// The port a socket is bound to.
Result<uint16_t> local_port(int socket);
// "10.0.0.2:51034", for messages; "an unknown peer" when the connection is gone.
std::string peer_address(int socket);
// The numeric address of this end, without its port; empty when there is none.
std::string local_address(int socket);
// What connect_tcp() does to its sockets; for accepted ones.
Status tune_tcp(int socket);

}  // namespace vmhop

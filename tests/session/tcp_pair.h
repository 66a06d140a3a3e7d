// Two connected TCP sockets on the loopback, and other small things for tests of connections.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <utility>

#include "backend/base/fd.h"
#include "backend/session/tcp.h"

namespace vmhop::testing_support {

inline UniqueFd listen_on_loopback() {
  return listen_tcp({"127.0.0.1", 0}).value();
}

inline HostPort address_of(const UniqueFd& listening) {
  return {"127.0.0.1", local_port(listening.get()).value()};
}

// Both blocking at first: who makes a stream of one makes it non-blocking.
inline std::pair<UniqueFd, UniqueFd> tcp_pair() {
  UniqueFd listening = listen_on_loopback();
  UniqueFd dialed = connect_tcp(address_of(listening), 5000).value();
  UniqueFd accepted(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  return {std::move(dialed), std::move(accepted)};
}

}  // namespace vmhop::testing_support

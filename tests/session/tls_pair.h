// Both ends of a TLS handshake over the loopback.
#pragma once

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "backend/session/identity.h"
#include "backend/session/tls.h"
#include "tests/session/tcp_pair.h"

namespace vmhop::testing_support {

// Milliseconds; nothing takes that long unless it hangs.
inline constexpr int kPatience = 20'000;
inline const std::string kIdentity = to_identity(SessionId{"web"});

using StreamResult = Result<std::unique_ptr<TlsStream>>;

inline PskLookup lookup_of(const Secret& psk) {
  return [&psk](std::string_view identity) -> std::optional<Secret> {
    if (identity != kIdentity) return std::nullopt;
    return psk.clone();
  };
}

struct Handshakes {
  StreamResult client;
  StreamResult server;
};

inline Handshakes shake_hands(const Secret& client_psk, const Secret& server_psk,
                              const std::string& identity = kIdentity) {
  auto sockets = tcp_pair();
  auto server = std::async(std::launch::async, [&] {
    return accept_tls(std::move(sockets.second), lookup_of(server_psk), kPatience);
  });
  auto client = connect_tls(std::move(sockets.first), identity, client_psk, kPatience);
  return {std::move(client), server.get()};
}

}  // namespace vmhop::testing_support

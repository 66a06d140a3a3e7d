// A TLS handshake that never blocks: what connect_tls(), accept_tls() and the Acceptor are made of.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backend/base/result.h"
#include "backend/session/tls.h"

struct ssl_session_st;

namespace vmhop {

class TlsHandshake {
 public:
  static Result<std::unique_ptr<TlsHandshake>> client(UniqueFd socket, const std::string& identity,
                                                      const Secret& psk);
  static Result<std::unique_ptr<TlsHandshake>> server(UniqueFd socket, PskLookup lookup);
  TlsHandshake(const TlsHandshake&) = delete;
  TlsHandshake& operator=(const TlsHandshake&) = delete;
  ~TlsHandshake();

  int fd() const;
  // Goes on as far as it can: the events to wait for on fd() before the next step, 0 when done.
  Result<short> step();
  // The stream, once step() returned 0.
  std::unique_ptr<TlsStream> finish();

 private:
  friend struct PskCallbacks;
  struct SessionDeleter {
    void operator()(ssl_session_st* session) const;
  };
  using SessionPtr = std::unique_ptr<ssl_session_st, SessionDeleter>;
  enum class Role { kClient, kServer };

  TlsHandshake(std::unique_ptr<SocketBio> bio, TlsStream::SslPtr ssl);
  static Result<std::unique_ptr<TlsHandshake>> create(UniqueFd socket, Role role);
  static Result<SessionPtr> make_session(ssl_st* ssl, const Secret& psk);
  Error explain(int ssl_error) const;
  Status check_outcome() const;

  std::unique_ptr<SocketBio> bio_;
  TlsStream::SslPtr ssl_;
  std::string identity_;
  SessionPtr psk_;                 // client
  PskLookup lookup_;               // server
  bool unknown_identity_ = false;  // server: some identity was offered, and not welcome
};

}  // namespace vmhop

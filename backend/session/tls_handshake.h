// A TLS handshake that never blocks: what connect_tls(), accept_tls() and the Acceptor are made of.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/base/result.h"
#include "backend/session/tls.h"

struct ssl_session_st;

namespace vmhop {

struct Examined;

class TlsHandshake {
 public:
  static Result<std::unique_ptr<TlsHandshake>> client(UniqueFd socket, const std::string& identity,
                                                      const Secret& psk);
  // By certificates, and by nothing else. They have to be a source's.
  static Result<std::unique_ptr<TlsHandshake>> client(UniqueFd socket,
                                                      SharedCertificates certificates,
                                                      const std::string& host);
  // Who offers a pre-shared key has to have a good one; who offers none needs a certificate, where
  // `certificates` are there.
  static Result<std::unique_ptr<TlsHandshake>> server(UniqueFd socket, PskLookup lookup,
                                                      SharedCertificates certificates = nullptr);
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
  friend struct CertificateCallbacks;
  struct SessionDeleter {
    void operator()(ssl_session_st* session) const;
  };
  using SessionPtr = std::unique_ptr<ssl_session_st, SessionDeleter>;
  enum class Role { kClient, kServer };

  // A client by certificates hears that the server has accepted its own: TLS 1.3 would let it
  // believe so.
  enum class Progress { kHandshake, kWelcome, kFlush, kDone };

  TlsHandshake(std::unique_ptr<SocketBio> bio, TlsStream::SslPtr ssl, Role role);
  static Result<std::unique_ptr<TlsHandshake>> create(UniqueFd socket, Role role);
  static Result<SessionPtr> make_session(ssl_st* ssl, const Secret& psk);
  Result<short> shake();
  Error explain(int ssl_error) const;
  Status check_outcome();
  // What tls_by_certificate.cc does.
  Result<short> await_welcome();
  Result<short> send_welcome();
  Status check_certificates() const;
  Examined examined() const;
  bool is_client() const { return role_ == Role::kClient; }

  std::unique_ptr<SocketBio> bio_;
  TlsStream::SslPtr ssl_;
  Role role_;
  Progress progress_ = Progress::kHandshake;
  std::string identity_;
  SessionPtr psk_;                 // client
  PskLookup lookup_;               // server
  bool unknown_identity_ = false;  // server: some identity was offered, and not welcome
  SharedCertificates certificates_;
  std::vector<std::string> peer_names_;  // of which the other side's certificate has to have one
  std::optional<Error> rejection_;       // why the other side's is not accepted
};

}  // namespace vmhop

// TLS 1.3 as a ByteStream, by a pre-shared key: both ends prove that they have the key of the
// identity. A session may be by certificates instead, which both ends have to present. Always with
// a fresh Diffie-Hellman exchange, never with resumption or early data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "backend/session/byte_stream.h"
#include "backend/session/key.h"

struct ssl_st;

namespace vmhop {

class Certificates;
class IoCursor;
class SocketBio;

// An authenticated, encrypted connection. One thread owns it; it may move to another one between
// calls.
//
// Writing has a rule of its own: bytes once offered to write_some() may be encrypted already
// although they were not counted as taken, so whoever got back less than was offered offers the
// rest again, in the same order, before anything else.
class TlsStream final : public ByteStream {
 public:
  ~TlsStream() override;

  using ByteStream::read_some;
  using ByteStream::write_some;
  Result<size_t> read_some(const iovec* buffers, size_t count) override;
  Result<size_t> write_some(const iovec* buffers, size_t count) override;
  bool has_buffered_input() const override;
  int fd() const override;

  // The identity whose key both sides proved to have; by certificates kCertificateSession.
  const std::string& identity() const { return identity_; }
  // The cipher suite in use, for logs.
  std::string cipher() const;
  // A secret that only the two ends of this connection can compute (RFC 5705); the same on both
  // sides, another one for each label.
  Result<Secret> export_secret(std::string_view label) const;
  // Goes on sending with a fresh key; done by itself long before AES-GCM's limit for one key.
  Status renew_key();

 private:
  friend class TlsHandshake;
  struct SslDeleter {
    void operator()(ssl_st* ssl) const;
  };
  using SslPtr = std::unique_ptr<ssl_st, SslDeleter>;

  TlsStream(std::unique_ptr<SocketBio> bio, SslPtr ssl, std::string identity);
  Result<bool> flush();
  Result<size_t> encrypt(IoCursor& input);
  Error explain(const char* what, int ssl_error) const;

  std::unique_ptr<SocketBio> bio_;
  SslPtr ssl_;
  std::string identity_;
  std::unique_ptr<std::byte[]> gather_;  // one record, where a buffer is shorter than that
  size_t uncounted_ = 0;                 // encrypted, but not yet reported as taken
  uint64_t records_with_key_ = 0;
  bool input_exhausted_ = true;  // the last read met the end of what has arrived
  std::optional<Error> read_failure_;
  bool failure_untold_ = false;         // the bytes before it were handed out
  std::optional<Error> write_failure_;  // what was received can still be read then
};

// The key of an identity that a client claims; empty for an identity that is not welcome.
using PskLookup = std::function<std::optional<Secret>(std::string_view identity)>;

// The handshakes, in the calling thread and over within `timeout_ms`. `socket` is a connected
// stream socket. Errors say what the user can do: kRefused for a key that does not fit, an
// identity that is not welcome and a peer that does not speak vmhop's TLS; kClosed and kTimedOut.
Result<std::unique_ptr<TlsStream>> connect_tls(UniqueFd socket, const std::string& identity,
                                               const Secret& psk, int timeout_ms);
Result<std::unique_ptr<TlsStream>> accept_tls(UniqueFd socket, PskLookup lookup, int timeout_ms);

// The same by certificates. `host` is who has to answer, unless they name another. Here, too, the
// client has been accepted when this returns.
using SharedCertificates = std::shared_ptr<const Certificates>;
Result<std::unique_ptr<TlsStream>> connect_tls(UniqueFd socket, SharedCertificates certificates,
                                               const std::string& host, int timeout_ms);
// Takes lanes by `lookup` and sessions by certificates.
Result<std::unique_ptr<TlsStream>> accept_tls(UniqueFd socket, PskLookup lookup,
                                              SharedCertificates certificates, int timeout_ms);

}  // namespace vmhop

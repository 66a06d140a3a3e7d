#include "backend/session/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <array>
#include <span>
#include <utility>

#include "backend/session/deadline.h"
#include "backend/session/io_cursor.h"
#include "backend/session/socket_bio.h"
#include "backend/session/tls_handshake.h"

namespace vmhop {
namespace {

// RFC 8446, 5.5: at most 2^24.5 records with one AES-GCM key.
constexpr uint64_t kRecordsPerKey = uint64_t{1} << 23;

Result<std::unique_ptr<TlsStream>> run(TlsHandshake& handshake, int timeout_ms) {
  Deadline deadline(timeout_ms);
  for (;;) {
    VMHOP_ASSIGN(short events, handshake.step());
    if (events == 0) return handshake.finish();
    VMHOP_ASSIGN(short ready, wait_fd(handshake.fd(), events, deadline.left_ms()));
    if (ready == 0) {
      return Error(fmt::format("the TLS handshake was not over after {} ms: the other side is "
                               "silent, or is no vmhop",
                               timeout_ms),
                   ErrorKind::kTimedOut);
    }
  }
}

}  // namespace

void TlsStream::SslDeleter::operator()(ssl_st* ssl) const {
  SSL_free(ssl);
}

TlsStream::TlsStream(std::unique_ptr<SocketBio> bio, SslPtr ssl, std::string identity)
    : bio_(std::move(bio)),
      ssl_(std::move(ssl)),
      identity_(std::move(identity)),
      gather_(new std::byte[kMaxPlainRecord]) {}

TlsStream::~TlsStream() {
  // Says goodbye if the socket takes it, and never waits.
  if (!read_failure_ && !write_failure_) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    (void)bio_->flush();
  }
}

int TlsStream::fd() const {
  return bio_->fd();
}

bool TlsStream::has_buffered_input() const {
  // What is left of an incomplete record counts for nothing: its rest makes poll() return.
  if (read_failure_) return failure_untold_;
  return !input_exhausted_ && SSL_has_pending(ssl_.get()) == 1;
}

std::string TlsStream::cipher() const {
  return SSL_CIPHER_get_name(SSL_get_current_cipher(ssl_.get()));
}

Result<size_t> TlsStream::read_some(const iovec* buffers, size_t count) {
  failure_untold_ = false;
  if (read_failure_) return *read_failure_;
  IoCursor output(buffers, count);
  size_t total = 0;
  input_exhausted_ = false;
  while (!output.done()) {
    size_t got = 0;
    ERR_clear_error();
    int result = SSL_read_ex(ssl_.get(), output.data(), output.size(), &got);
    if (result == 1) {
      output.advance(got);
      total += got;
      continue;
    }
    // WANT_WRITE does not come after a handshake: an answer to the peer's key update is deferred by
    // OpenSSL to our next write, and SocketBio takes it without a wait.
    int error = SSL_get_error(ssl_.get(), result);
    input_exhausted_ = true;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) break;
    read_failure_ = explain("reading from the encrypted connection", error);
    if (total == 0) return *read_failure_;
    failure_untold_ = true;  // until the next call
    break;
  }
  return total;
}

Result<size_t> TlsStream::write_some(const iovec* buffers, size_t count) {
  if (write_failure_) return *write_failure_;
  IoCursor input(buffers, count);
  VMHOP_ASSIGN(bool sent, flush());
  if (!sent) return size_t{0};
  // Bytes count as taken once their records have gone: nobody would ask for the rest otherwise.
  size_t taken = input.skip(uncounted_);
  uncounted_ -= taken;
  while (!input.done()) {
    VMHOP_ASSIGN(uncounted_, encrypt(input));
    VMHOP_ASSIGN(sent, flush());
    if (!sent) break;
    taken += std::exchange(uncounted_, 0);
  }
  return taken;
}

Result<bool> TlsStream::flush() {
  auto sent = bio_->flush();
  if (!sent) write_failure_ = sent.error();
  return sent;
}

// Fills the socket's buffer with records made of what `input` holds; the plain bytes in them.
Result<size_t> TlsStream::encrypt(IoCursor& input) {
  size_t total = 0;
  while (!input.done() && bio_->has_room_for_record()) {
    if (records_with_key_ >= kRecordsPerKey) VMHOP_TRY(renew_key());
    std::span<const std::byte> record = input.next_record(gather_.get());
    size_t put = 0;
    ERR_clear_error();
    int result = SSL_write_ex(ssl_.get(), record.data(), record.size(), &put);
    // There was room, so it takes the whole record or fails for good.
    if (result != 1 || put != record.size()) {
      write_failure_ =
          explain("writing to the encrypted connection", SSL_get_error(ssl_.get(), result));
      return *write_failure_;
    }
    total += put;
    ++records_with_key_;
  }
  return total;
}

Status TlsStream::renew_key() {
  ERR_clear_error();
  if (SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) != 1) {
    write_failure_ = explain("renewing the key of the connection", SSL_ERROR_SSL);
    return *write_failure_;
  }
  records_with_key_ = 0;
  return ok_status();
}

Result<Secret> TlsStream::export_secret(std::string_view label) const {
  std::array<std::byte, Secret::kSize> bytes{};
  ERR_clear_error();
  if (SSL_export_keying_material(ssl_.get(), reinterpret_cast<unsigned char*>(bytes.data()),
                                 bytes.size(), label.data(), label.size(), nullptr, 0, 0) != 1) {
    return Error("OpenSSL did not derive a secret from the connection");
  }
  Secret secret = Secret::from_bytes(bytes);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return secret;
}

// What became of the connection, by the error that OpenSSL keeps.
Error TlsStream::explain(const char* what, int ssl_error) const {
  unsigned long code = ERR_peek_error();
  if (ssl_error == SSL_ERROR_ZERO_RETURN ||
      ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
    return Error("the connection was closed", ErrorKind::kClosed);
  }
  if (bio_->last_errno() != 0) {
    return Error(Error::from_errno(what, bio_->last_errno()).message(), ErrorKind::kClosed);
  }
  // A record that was changed on its way, or a peer that breaks the protocol.
  const char* reason = ERR_reason_error_string(code);
  return Error(fmt::format("{}: {}", what, reason != nullptr ? reason : "TLS failed"),
               ErrorKind::kClosed);
}

Result<std::unique_ptr<TlsStream>> connect_tls(UniqueFd socket, const std::string& identity,
                                               const Secret& psk, int timeout_ms) {
  VMHOP_ASSIGN(auto handshake, TlsHandshake::client(std::move(socket), identity, psk));
  return run(*handshake, timeout_ms);
}

Result<std::unique_ptr<TlsStream>> accept_tls(UniqueFd socket, PskLookup lookup, int timeout_ms) {
  VMHOP_ASSIGN(auto handshake, TlsHandshake::server(std::move(socket), std::move(lookup)));
  return run(*handshake, timeout_ms);
}

Result<std::unique_ptr<TlsStream>> connect_tls(UniqueFd socket, SharedCertificates certificates,
                                               const std::string& host, int timeout_ms) {
  VMHOP_ASSIGN(auto handshake,
               TlsHandshake::client(std::move(socket), std::move(certificates), host));
  return run(*handshake, timeout_ms);
}

Result<std::unique_ptr<TlsStream>> accept_tls(UniqueFd socket, PskLookup lookup,
                                              SharedCertificates certificates, int timeout_ms) {
  VMHOP_ASSIGN(auto handshake,
               TlsHandshake::server(std::move(socket), std::move(lookup), std::move(certificates)));
  return run(*handshake, timeout_ms);
}

}  // namespace vmhop

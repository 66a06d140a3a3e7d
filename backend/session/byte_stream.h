// A connected, non-blocking byte stream, plain or TLS: what sessions and the TCP page source read
// and write. One thread owns a stream.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <span>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

class ByteStream {
 public:
  ByteStream() = default;
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;
  virtual ~ByteStream() = default;

  // Reads into `buffers` in order, at most `count` of them; returns the bytes read, 0 when nothing
  // is there now. Fewer than there was room for: that was all. kClosed at the end of the stream.
  virtual Result<size_t> read_some(const iovec* buffers, size_t count) = 0;
  // Writes from `buffers` in order; returns the bytes taken, 0 when none can be taken now.
  virtual Result<size_t> write_some(const iovec* buffers, size_t count) = 0;

  // True when read_some() has bytes, or an error to tell, although poll() on fd() may not say so
  // (decrypted already).
  virtual bool has_buffered_input() const { return false; }
  // Until this is called again poll() on fd() need not tell of less than `bytes` of input, which
  // the peer sends whatever happens here: who waits for many is woken once for all.
  virtual void expect_input(size_t bytes) { (void)bytes; }
  virtual int fd() const = 0;

  Result<size_t> read_some(std::span<std::byte> buffer) {
    iovec io{buffer.data(), buffer.size()};
    return read_some(&io, 1);
  }
  Result<size_t> write_some(std::span<const std::byte> buffer) {
    iovec io{const_cast<std::byte*>(buffer.data()), buffer.size()};
    return write_some(&io, 1);
  }
};

// Takes a connected stream socket; makes it non-blocking.
Result<std::unique_ptr<ByteStream>> make_plain_stream(UniqueFd socket);

// Reads / writes the whole buffer, waiting for the peer at most `timeout_ms` at a time (-1: for
// ever).
Status read_exactly(ByteStream& stream, std::span<std::byte> buffer, int timeout_ms);
Status write_exactly(ByteStream& stream, std::span<const std::byte> buffer, int timeout_ms);

}  // namespace vmhop

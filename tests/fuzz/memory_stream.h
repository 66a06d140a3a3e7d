// A ByteStream whose other end is the fuzzer: what it says arrives in the portions that it likes.
#pragma once

#include <cstring>
#include <vector>

#include "backend/session/byte_stream.h"

namespace vmhop::fuzz {

class MemoryStream final : public ByteStream {
 public:
  using ByteStream::read_some;
  using ByteStream::write_some;

  // `fd` is for what waits until it is ready; not owned.
  explicit MemoryStream(int fd = -1) : fd_(fd) {}

  // The fuzzer's end -------------------------------------------------------------------------
  void say(std::span<const std::byte> bytes) {
    said_.insert(said_.end(), bytes.begin(), bytes.end());
  }
  // Nothing more is said: after the last byte the stream is closed.
  void end() { ended_ = true; }
  // At most this many bytes a call, from the next one on.
  void set_portion(size_t bytes) { portion_ = bytes; }
  const std::vector<std::byte>& heard() const { return heard_; }

  // The other one ----------------------------------------------------------------------------
  Result<size_t> read_some(const iovec* buffers, size_t count) override {
    if (read_ == said_.size()) {
      if (ended_) return Error("the connection was closed", ErrorKind::kClosed);
      return size_t{0};
    }
    size_t left = std::min(portion_, said_.size() - read_);
    size_t total = 0;
    for (size_t i = 0; i < count && left > 0; ++i) {
      size_t size = std::min(left, buffers[i].iov_len);
      if (size == 0) continue;
      std::memcpy(buffers[i].iov_base, said_.data() + read_, size);
      read_ += size;
      left -= size;
      total += size;
    }
    return total;
  }
  Result<size_t> write_some(const iovec* buffers, size_t count) override {
    size_t left = portion_;
    for (size_t i = 0; i < count && left > 0; ++i) {
      size_t size = std::min(left, buffers[i].iov_len);
      const auto* bytes = static_cast<const std::byte*>(buffers[i].iov_base);
      heard_.insert(heard_.end(), bytes, bytes + size);
      left -= size;
    }
    return portion_ - left;
  }
  bool has_buffered_input() const override { return read_ < said_.size(); }
  int fd() const override { return fd_; }

 private:
  int fd_;
  size_t portion_ = SIZE_MAX;
  bool ended_ = false;
  std::vector<std::byte> said_;
  size_t read_ = 0;
  std::vector<std::byte> heard_;
};

}  // namespace vmhop::fuzz

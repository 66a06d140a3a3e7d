// Walks over scattered buffers, one TLS record at a time.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "backend/session/socket_bio.h"

namespace vmhop {

class IoCursor {
 public:
  IoCursor(const iovec* buffers, size_t count) : next_(buffers), end_(buffers + count) {
    skip_empty();
  }

  bool done() const { return next_ == end_; }
  // The piece at hand: size() bytes at data().
  std::byte* data() const { return static_cast<std::byte*>(next_->iov_base) + offset_; }
  size_t size() const { return next_->iov_len - offset_; }

  // At most size() bytes.
  void advance(size_t bytes) {
    offset_ += bytes;
    if (offset_ < next_->iov_len) return;
    ++next_;
    offset_ = 0;
    skip_empty();
  }

  // Across pieces; the bytes skipped, fewer at the end.
  size_t skip(size_t bytes) {
    size_t left = bytes;
    while (left > 0 && !done()) {
      size_t step = std::min(left, size());
      advance(step);
      left -= step;
    }
    return bytes - left;
  }

  // The next kMaxPlainRecord bytes, fewer at the end: in place where they are in one piece, else
  // copied together into `gather`, which has room for them.
  std::span<const std::byte> next_record(std::byte* gather) {
    if (size() >= kMaxPlainRecord || next_ + 1 == end_) {
      std::span<const std::byte> record(data(), std::min(size(), kMaxPlainRecord));
      advance(record.size());
      return record;
    }
    size_t filled = 0;
    while (filled < kMaxPlainRecord && !done()) {
      size_t step = std::min(kMaxPlainRecord - filled, size());
      std::memcpy(gather + filled, data(), step);
      advance(step);
      filled += step;
    }
    return {gather, filled};
  }

 private:
  void skip_empty() {
    while (next_ != end_ && next_->iov_len == 0)
      ++next_;
  }

  const iovec* next_;
  const iovec* end_;
  size_t offset_ = 0;
};

}  // namespace vmhop

// Recognising zeros.
#pragma once

#include <cstddef>
#include <cstring>

namespace vmhop {

// True if all `length` bytes are zero. Memory with something in it usually says so in its first
// bytes, so a page that is not zero costs next to nothing.
inline bool is_zero(const std::byte* bytes, size_t length) {
  if (length == 0) return true;
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, length - 1) == 0;
}

}  // namespace vmhop

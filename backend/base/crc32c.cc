#include "backend/base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <climits>

namespace vmhop {

// ISA-L leaves the inversions before and after to its caller, counts in int, and writes nothing
// although its parameter is not const.
uint32_t crc32c(std::span<const std::byte> bytes) {
  uint32_t crc = 0xffffffff;
  while (!bytes.empty()) {
    size_t length = std::min<size_t>(bytes.size(), INT_MAX);
    auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
    crc = ::crc32_iscsi(data, static_cast<int>(length), crc);
    bytes = bytes.subspan(length);
  }
  return ~crc;
}

}  // namespace vmhop

// CRC32C (Castagnoli, as in iSCSI, RFC 3720 appendix B.4), by Intel's ISA-L: as fast as memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vmhop {

uint32_t crc32c(std::span<const std::byte> bytes);

}  // namespace vmhop

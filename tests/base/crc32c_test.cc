#include "backend/base/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace vmhop {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// RFC 3720, B.4, and the check value of the CRC catalogue.
TEST(Crc32c, IsTheOneOfIscsi) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xe3069283U);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0})), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::vector<std::byte>(32, std::byte{0xff})), 0x62a8ab43U);
  EXPECT_EQ(crc32c({}), 0U);
}

// Hardware and vector code take different ways by length and alignment.
TEST(Crc32c, IsTheSameFromAnyAddressAndForAnyLength) {
  auto bit_by_bit = [](std::span<const std::byte> bytes) {
    uint32_t crc = 0xffffffff;
    for (std::byte byte : bytes) {
      crc ^= static_cast<uint32_t>(byte);
      for (int bit = 0; bit < 8; ++bit)
        crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78U : 0U);
    }
    return ~crc;
  };
  std::vector<std::byte> data(9000);
  uint32_t state = 1;
  for (std::byte& byte : data) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<std::byte>(state >> 24);
  }
  for (size_t offset : {0, 1, 7, 63}) {
    for (size_t length : {1, 15, 64, 255, 1024, 4096, 8192}) {
      auto part = std::span<const std::byte>(data).subspan(offset, length);
      EXPECT_EQ(crc32c(part), bit_by_bit(part)) << offset << " " << length;
    }
  }
}

}  // namespace
}  // namespace vmhop

#include "backend/base/zero_page.h"

#include <gtest/gtest.h>

#include <vector>

namespace vmhop {
namespace {

TEST(ZeroPage, IsRecognised) {
  std::vector<std::byte> page(4096);
  EXPECT_TRUE(is_zero(page.data(), page.size()));
  EXPECT_TRUE(is_zero(page.data(), 1));
  EXPECT_TRUE(is_zero(page.data(), 0));
}

TEST(ZeroPage, IsNoneWithASingleBitAnywhere) {
  std::vector<std::byte> page(4096);
  for (size_t at = 0; at < page.size(); ++at) {
    page[at] = std::byte{static_cast<uint8_t>(1U << at % 8)};
    ASSERT_FALSE(is_zero(page.data(), page.size())) << at;
    page[at] = std::byte{0};
  }
}

TEST(ZeroPage, IsNoneWhenItIsUniformButNotZero) {
  std::vector<std::byte> page(4096, std::byte{0x55});
  EXPECT_FALSE(is_zero(page.data(), page.size()));
}

}  // namespace
}  // namespace vmhop

#include "rdma/key_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace vmhop::rdma {
namespace {

KeyedRange range(uint64_t offset, uint64_t length, uint32_t key) {
  return {offset, length, 0, key, 0, nullptr};
}

TEST(KeyTable, FindsTheRangeOfAByte) {
  KeyTable table(2);
  ASSERT_TRUE(table.add(1, {range(100, 50, 1), range(0, 50, 2)}).ok());
  EXPECT_EQ(table.find(1, 0)->remote_key, 2U);
  EXPECT_EQ(table.find(1, 49)->remote_key, 2U);
  EXPECT_EQ(table.find(1, 50), nullptr);
  EXPECT_EQ(table.find(1, 149)->remote_key, 1U);
  EXPECT_EQ(table.find(1, 150), nullptr);
  EXPECT_EQ(table.find(0, 0), nullptr);
  EXPECT_EQ(table.find(9, 0), nullptr);
}

TEST(KeyTable, RefusesRangesThatOverlap) {
  KeyTable table(1);
  ASSERT_TRUE(table.add(0, {range(100, 50, 1)}).ok());
  EXPECT_FALSE(table.add(0, {range(149, 10, 2)}).ok());
  EXPECT_TRUE(table.add(0, {range(150, 10, 3)}).ok());
  EXPECT_FALSE(table.add(1, {range(0, 1, 4)}).ok());
}

TEST(KeyTable, IsReadWhileItGrows) {
  KeyTable table(1);
  ASSERT_TRUE(table.add(0, {range(0, 10, 1)}).ok());
  std::atomic<bool> done{false};
  std::atomic<bool> wrong{false};
  std::thread reader([&] {
    while (!done) {
      const KeyedRange* first = table.find(0, 5);
      if (first == nullptr || first->remote_key != 1) wrong = true;
    }
  });
  for (uint64_t i = 1; i < 200; ++i)
    ASSERT_TRUE(table.add(0, {range(i * 10, 10, static_cast<uint32_t>(i + 1))}).ok());
  done = true;
  reader.join();
  EXPECT_FALSE(wrong);
  EXPECT_EQ(table.find(0, 1999)->remote_key, 200U);
}

}  // namespace
}  // namespace vmhop::rdma

#include "backend/base/ring.h"

#include <gtest/gtest.h>

namespace vmhop {
namespace {

TEST(Ring, GivesBackInOrder) {
  Ring<int> ring(4);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 3; ++i)
      ring.push(i);
    for (int i = 0; i < 3; ++i, ring.pop())
      EXPECT_EQ(ring.front(), i);
    EXPECT_TRUE(ring.empty());
  }
}

TEST(Ring, GrowsWithoutLosingItsOrder) {
  Ring<int> ring(2);
  ring.push(-1);
  ring.push(-2);
  ring.pop();
  for (int i = 0; i < 100; ++i)
    ring.push(i);
  EXPECT_EQ(ring.size(), 101U);
  EXPECT_EQ(ring.front(), -2);
  ring.pop();
  for (int i = 0; i < 100; ++i, ring.pop())
    EXPECT_EQ(ring.front(), i);
  EXPECT_TRUE(ring.empty());
}

}  // namespace
}  // namespace vmhop

#include "backend/base/adaptive_poll.h"

#include <gtest/gtest.h>

namespace vmhop {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;

TEST(SpinBudgetTest, ShrinksWithLongWaitsButNeverToNothing) {
  SpinBudget budget;
  auto before = budget.get();
  budget.note_wait(seconds(1));
  EXPECT_EQ(budget.get(), before / 2);
  for (int i = 0; i < 20; ++i)
    budget.note_wait(seconds(1));
  EXPECT_EQ(budget.get(), microseconds(5));
}

// It did not: a page that took 40 µs found the handler asleep for good after a pause of the guest.
TEST(SpinBudgetTest, ComesBackWithOneShortWaitHoweverLongItHadShrunk) {
  SpinBudget budget;
  for (int i = 0; i < 20; ++i)
    budget.note_wait(seconds(1));
  budget.note_wait(microseconds(40));
  EXPECT_EQ(budget.get(), microseconds(80));
}

TEST(SpinBudgetTest, GrowsToItsLimitAndDoesNotFallWithWaitsShorterThanIt) {
  SpinBudget budget;
  budget.note_wait(microseconds(150));
  EXPECT_EQ(budget.get(), microseconds(200));
  budget.note_wait(microseconds(1));
  EXPECT_EQ(budget.get(), microseconds(200));
}

TEST(AdaptiveSpinTest, AsksUntilItIsReady) {
  AdaptiveSpin spin;
  int asked = 0;
  EXPECT_TRUE(spin.spin([&asked] { return ++asked == 1; }));
  EXPECT_EQ(asked, 1);
}

TEST(AdaptiveSpinTest, GivesUpOnWhatNeverComes) {
  AdaptiveSpin spin;
  int asked = 0;
  EXPECT_FALSE(spin.spin([&asked] {
    ++asked;
    return false;
  }));
  EXPECT_GE(asked, 1);
}

}  // namespace
}  // namespace vmhop

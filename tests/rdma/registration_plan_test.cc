#include "rdma/registration_plan.h"

#include <gtest/gtest.h>

namespace vmhop::rdma {
namespace {

constexpr uint64_t kPage = 4096;

ExtentList every_other_page(uint64_t pages) {
  ExtentList extents;
  for (uint64_t page = 0; page < pages; page += 2)
    extents.push_back({page * kPage, kPage});
  return extents;
}

TEST(RegistrationPlan, ClosesSmallGaps) {
  ExtentList extents{{0, 100 * kPage}, {101 * kPage, 100 * kPage}};
  EXPECT_EQ(plan_registration(extents, {}), (ExtentList{{0, 201 * kPage}}));
}

TEST(RegistrationPlan, LeavesGapsThatCostTooMuch) {
  ExtentList extents{{0, 10 * kPage}, {11 * kPage, 10 * kPage}};
  EXPECT_EQ(plan_registration(extents, {}), extents);
}

TEST(RegistrationPlan, ClosesTheSmallestGapsFirst) {
  ExtentList extents{{0, 50 * kPage}, {58 * kPage, 50 * kPage}, {109 * kPage, 50 * kPage}};
  EXPECT_EQ(plan_registration(extents, {}),
            (ExtentList{{0, 50 * kPage}, {58 * kPage, 101 * kPage}}));
}

TEST(RegistrationPlan, RegistersAtMostFivePercentMoreThanIsPopulated) {
  for (uint64_t stretch : {1, 2, 7, 30, 100}) {
    ExtentList extents;
    for (uint64_t page = 0; page < 100'000; page += stretch + 1 + page % 3)
      extents.push_back({page * kPage, stretch * kPage});
    EXPECT_LE(static_cast<double>(total_length(plan_registration(extents, {}))),
              1.05 * static_cast<double>(total_length(extents)));
  }
}

TEST(RegistrationPlan, KeepsFragmentsApartWhenTheirGapsAreAsLarge) {
  ExtentList extents = every_other_page(1000);
  EXPECT_EQ(plan_registration(extents, {}), extents);
}

TEST(RegistrationPlan, CutsWhatIsLong) {
  ExtentList pieces = plan_registration(ExtentList{{kPage, 200 << 20}}, {});
  EXPECT_EQ(pieces.size(), 4U);
  EXPECT_EQ(total_length(pieces), 200U << 20);
}

TEST(RegistrationPlan, OfNothingIsNothing) {
  EXPECT_TRUE(plan_registration({}, {}).empty());
}

}  // namespace
}  // namespace vmhop::rdma

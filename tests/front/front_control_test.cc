#include "qemu-memory-backend/front_control.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace vmhop {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A front's end of the same page.
class Front {
 public:
  explicit Front(const FrontControl& control)
      : mapping_(
            Mapping::map_shared(control.fd().get(), sizeof(vmhop_front_control), Access::kReadWrite)
                .value()) {}
  vmhop_front_control* page() const {
    return reinterpret_cast<vmhop_front_control*>(mapping_.data());
  }

 private:
  Mapping mapping_;
};

TEST(FrontControl, BlocksNothingWhenItIsNew) {
  auto control = FrontControl::create().value();
  Front front(control);
  EXPECT_FALSE(control.discards_blocked());
  ASSERT_TRUE(vmhop_front_punch_begin(front.page()));
  vmhop_front_punch_end(front.page());
  EXPECT_EQ(control.punches(), 1U);
  EXPECT_EQ(control.refused(), 0U);
}

TEST(FrontControl, RefusesPunchesWhileBlockedAndAllowsThemAfterwards) {
  auto control = FrontControl::create().value();
  Front front(control);
  ASSERT_TRUE(control.block_discards(seconds(1)).ok());
  EXPECT_FALSE(vmhop_front_punch_begin(front.page()));
  EXPECT_EQ(control.refused(), 1U);
  EXPECT_EQ(control.punches(), 0U);
  control.allow_discards();
  EXPECT_TRUE(vmhop_front_punch_begin(front.page()));
}

TEST(FrontControl, ARefusedPunchDoesNotKeepBlockingWaiting) {
  auto control = FrontControl::create().value();
  Front front(control);
  ASSERT_TRUE(control.block_discards(seconds(1)).ok());
  EXPECT_FALSE(vmhop_front_punch_begin(front.page()));
  EXPECT_TRUE(control.block_discards(milliseconds(0)).ok());
}

TEST(FrontControl, BlockingWaitsForThePunchInProgress) {
  auto control = FrontControl::create().value();
  Front front(control);
  ASSERT_TRUE(vmhop_front_punch_begin(front.page()));
  std::atomic<bool> ended = false;
  std::thread puncher([&] {
    while (!control.discards_blocked())
      std::this_thread::yield();
    ended = true;
    vmhop_front_punch_end(front.page());
  });
  EXPECT_TRUE(control.block_discards(seconds(20)).ok());
  EXPECT_TRUE(ended);
  EXPECT_EQ(control.punches(), 1U);
  puncher.join();
}

TEST(FrontControl, BlockingSaysWhenAPunchDoesNotEndAndStaysBlocked) {
  auto control = FrontControl::create().value();
  Front front(control);
  ASSERT_TRUE(vmhop_front_punch_begin(front.page()));
  Status blocked = control.block_discards(milliseconds(1));
  ASSERT_FALSE(blocked.ok());
  EXPECT_EQ(blocked.error().kind(), ErrorKind::kTimedOut);
  EXPECT_TRUE(control.discards_blocked());
}

TEST(FrontControl, CountsNoPunchBetweenBlockAndAllowHoweverHardFrontsTry) {
  auto control = FrontControl::create().value();
  Front front(control);
  std::atomic<bool> stop = false;
  std::vector<std::thread> punchers;
  punchers.reserve(3);
  for (int i = 0; i < 3; ++i) {
    punchers.emplace_back([&] {
      while (!stop) {
        if (vmhop_front_punch_begin(front.page()) != 0) vmhop_front_punch_end(front.page());
      }
    });
  }
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(control.block_discards(seconds(20)).ok());
    uint64_t before = control.punches();
    uint64_t refused = control.refused();
    while (control.refused() == refused)
      std::this_thread::yield();
    EXPECT_EQ(control.punches(), before);
    control.allow_discards();
  }
  stop = true;
  for (std::thread& puncher : punchers)
    puncher.join();
}

TEST(FrontControl, AttachingFindsWhatWasBlockedAndCounted) {
  auto control = FrontControl::create().value();
  ASSERT_TRUE(control.block_discards(seconds(1)).ok());
  Front front(control);
  EXPECT_FALSE(vmhop_front_punch_begin(front.page()));
  auto again = FrontControl::attach(control.fd().duplicate().value());
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->discards_blocked());
  EXPECT_EQ(again->refused(), 1U);
}

TEST(FrontControl, AttachesToNothingButAControlPage) {
  EXPECT_FALSE(FrontControl::attach(create_memfd("other", 4096).value()).ok());
  EXPECT_FALSE(FrontControl::attach(UniqueFd()).ok());
}

}  // namespace
}  // namespace vmhop

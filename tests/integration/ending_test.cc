// SIGTERM ends run and receive in every phase before the commit, and leaves nothing behind.
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

class Ending : public HopTest {
 protected:
  void expect_ends(std::optional<Process>& process, const std::string& host) {
    process->signal(SIGTERM);
    ASSERT_VALUE(Finished ended, finish(*process, within(60s)));
    EXPECT_TRUE(ended.status.clean()) << ended.describe();
    EXPECT_OK(nothing_left_at(host));
  }
};

TEST_F(Ending, OfAVmThatRuns) {
  ASSERT_OK(boot());
  expect_ends(running_, "source");
}

TEST_F(Ending, OfAHostThatWaits) {
  ASSERT_OK(await());
  expect_ends(receiving_, "destination");
}

TEST_F(Ending, OfAGuestThatPowersOff) {
  ASSERT_OK(boot());
  ASSERT_OK(console_->send("q"));
  ASSERT_VALUE(Finished ended, finish(*running_, within(60s)));
  EXPECT_TRUE(ended.status.clean()) << ended.describe();
  EXPECT_OK(nothing_left_at("source"));
}

TEST_F(Ending, OfTheSourceWhileTheVmIsStopped) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(slow_down());
  ASSERT_VALUE(Process relocating, start_relocation());
  ASSERT_OK(wait_for_event(*source_monitor_, "STOP"));
  expect_ends(running_, "source");
  ASSERT_OK(speed_up());
  ASSERT_OK(await_again());
  expect_ends(receiving_, "destination");
}

TEST_F(Ending, OfTheDestinationWhileTheVmIsStopped) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(slow_down());
  ASSERT_VALUE(Process relocating, start_relocation());
  ASSERT_OK(wait_for_event(*source_monitor_, "STOP"));
  expect_ends(receiving_, "destination");
  ASSERT_VALUE(Finished failed, finish(relocating, within(60s)));
  EXPECT_FALSE(failed.status.clean());
  ASSERT_OK(speed_up());
  ASSERT_OK(runs_on_at_source());
}

TEST_F(Ending, OfAVmThatHasArrived) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(relocates_well());
  expect_ends(receiving_, "destination");
}

}  // namespace
}  // namespace vmhop::lab

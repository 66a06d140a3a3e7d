// A VM that its user paused arrives paused, and goes on when its user says so.
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

class Paused : public HopTest {
 protected:
  void expect_arrives_paused();
};

void Paused::expect_arrives_paused() {
  ASSERT_VALUE(Finished relocated, relocate());
  ASSERT_TRUE(relocated.status.clean()) << relocated.describe();
  ASSERT_OK(wait_for_state(*destination_, "paused"));
  ASSERT_VALUE(auto status, destination_monitor_->execute("query-status"));
  EXPECT_EQ(status["running"], false) << status;
  size_t printed = console_->log().size();
  ASSERT_VALUE(auto continued, destination_monitor_->execute("cont"));
  ASSERT_OK(console_->wait_for_prefix("BM PASS", within(60s), printed));
  EXPECT_OK(runs_at_destination());
}

TEST_F(Paused, VmThatWasStartedPaused) {
  guest_.paused = true;
  ASSERT_OK(boot());
  BaremetalGuest there = guest_;
  there.paused = false;
  ASSERT_OK(await(there));
  expect_arrives_paused();
}

TEST_F(Paused, VmThatItsUserStopped) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(auto stopped, source_monitor_->execute("stop"));
  expect_arrives_paused();
}

}  // namespace
}  // namespace vmhop::lab

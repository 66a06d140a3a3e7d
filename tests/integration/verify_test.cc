// Pages that are compared with the source's checksums, over a network that changes some of them.
#include <gmock/gmock.h>

#include "backend/base/control_channel.h"
#include "cli/json_access.h"
#include "tests/integration/damaging_proxy.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 60s;

class Verify : public HopTest {
 protected:
  // What the pager says of itself.
  Result<nlohmann::json> ask_pager() const {
    VMHOP_ASSIGN(auto channel, ControlChannel::connect(destination_->runtime_directory() + "/" +
                                                       kVm + "/pager.sock"));
    VMHOP_TRY(channel.send({{"cmd", "status"}}));
    VMHOP_ASSIGN(ControlMessage answer, channel.receive(5000));
    return answer.body;
  }
  // The source has announced every page.
  Status wait_for_announcements() const {
    for (auto deadline = within(30s);;) {
      VMHOP_ASSIGN(nlohmann::json status, ask_pager());
      uint64_t announced = number_of(status, "pages_announced");
      if (announced > 0 && announced >= number_of(status, "pages_total")) return ok_status();
      if (Clock::now() > deadline) return errorf("{} pages were announced", announced);
      std::this_thread::sleep_for(10ms);
    }
  }
};

TEST_F(Verify, ComparesEveryPage) {
  guest_.arguments = "populate=alternate zeros=16";
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(Finished finished, relocate({"--verify"}));
  ASSERT_TRUE(finished.status.clean()) << finished.describe();
  nlohmann::json report = finished.json();
  uint64_t pages = number_of(report, "pages_faulted") + number_of(report, "pages_precached");
  EXPECT_GT(pages, 0U);
  EXPECT_GE(number_of(report, "pages_verified"), pages);
  EXPECT_OK(runs_at_destination());
}

TEST_F(Verify, ReadsAgainWhatTheNetworkChanged) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(auto proxy,
               DamagingProxy::start(network_->host("source"), destination_->endpoint()));
  ASSERT_VALUE(Process relocating,
               source_->relocate(kVm, proxy->endpoint(), {"--verify", "--plain-data"}));
  ASSERT_OK(wait_for_event(*destination_monitor_, "RESUME"));
  ASSERT_OK(wait_for_announcements());
  proxy->open();
  ASSERT_VALUE(Finished finished, finish(relocating, within(kPatience)));
  ASSERT_TRUE(finished.status.clean()) << finished.describe();
  EXPECT_EQ(proxy->damaged(), DamagingProxy::kPages);
  EXPECT_EQ(count_of(receiving_->err(), "it is read again"), DamagingProxy::kPages);
  EXPECT_OK(runs_at_destination());
}

}  // namespace
}  // namespace vmhop::lab

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
  // Every page is here but so many.
  Status wait_for_all_but(uint64_t pages) const {
    for (auto deadline = within(30s);;) {
      VMHOP_ASSIGN(nlohmann::json status, ask_pager());
      uint64_t missing = number_of(status, "pages_total") - number_of(status, "pages_resident");
      if (missing == pages) return ok_status();
      if (Clock::now() > deadline) return errorf("{} pages are missing", missing);
      std::this_thread::sleep_for(10ms);
    }
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

// The memory of a host, or a machine in between, that is broken: until it is mended the VM has all
// but that page, and both sides have said why.
TEST_F(Verify, LetsNothingGoWhileAPageComesWrong) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(auto proxy, DamagingProxy::start(network_->host("source"), destination_->endpoint(),
                                                DamagingProxy::Damage::kOnePageAlways));
  ASSERT_VALUE(relocating_,
               source_->relocate(kVm, proxy->endpoint(), {"--verify", "--plain-data"}));
  ASSERT_OK(wait_for_event(*destination_monitor_, "RESUME"));
  ASSERT_OK(wait_for_announcements());
  proxy->open();
  ASSERT_OK(receiving_->wait_for_err(
      [](auto text) {
        return count_of(text, "came twice with other bytes than the source has") > 0;
      },
      within(kPatience)));
  ASSERT_OK(running_->wait_for_err(
      [](auto text) {
        return count_of(text, "came to the destination with other bytes than are here") > 0;
      },
      within(kPatience)));
  EXPECT_GE(proxy->damaged(), 2U);
  ASSERT_OK(wait_for_all_but(1));
  EXPECT_OK(wait_for_state(*destination_, "arriving"));
  EXPECT_OK(wait_for_state(*source_, "leaving"));
  EXPECT_TRUE(relocating_->running());
  proxy->mend();
  ASSERT_VALUE(Finished finished, finish(*relocating_, within(kPatience)));
  ASSERT_TRUE(finished.status.clean()) << finished.describe();
  EXPECT_OK(runs_at_destination());
}

}  // namespace
}  // namespace vmhop::lab

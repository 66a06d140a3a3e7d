// The two fronts in QEMU, and the QEMUs that have them, side by side.
#include <fcntl.h>
#include <unistd.h>

#include "cli/exit_codes.h"
#include "cli/json_access.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

constexpr const char* kStock = "qemu-system-x86_64";

class Fronts : public HopTest {
 protected:
  void SetUp() override {
    HopTest::SetUp();
    ASSERT_VALUE(with_object_, patched_qemu("7.2"));
  }
  // From the source, where `here` runs it, to the destination, where `there` does.
  void hop(const std::string& here, const std::string& there);
  // ... and back, to a QEMU `there` at the source.
  void hop_back(const std::string& there);
  Result<nlohmann::json> property(const char* name);

  std::string with_object_;
};

void Fronts::hop(const std::string& here, const std::string& there) {
  guest_.qemu = here;
  ASSERT_OK(boot());
  guest_.qemu = there;
  ASSERT_OK(await());
  ASSERT_OK(relocates_well());
}

void Fronts::hop_back(const std::string& there) {
  guest_.qemu = there;
  ASSERT_VALUE(running_, source_->receive(kVm, guest_.qemu_command(source_->place())));
  ASSERT_OK(console_->attach(source_->place().console, within(60s)));
  ASSERT_VALUE(Process relocating, destination_->relocate(kVm, source_->endpoint()));
  ASSERT_VALUE(Finished finished, finish(relocating, within(60s)));
  ASSERT_TRUE(finished.status.clean()) << finished.describe();
  ASSERT_OK(wait_for_state(*source_, "running"));
  EXPECT_OK(guest_goes_on());
}

Result<nlohmann::json> Fronts::property(const char* name) {
  return destination_monitor_->execute("qom-get",
                                       {{"path", "/objects/vmhop-ram"}, {"property", name}});
}

TEST_F(Fronts, AVmHopsFromOneToTheOtherAndBack) {
  ASSERT_NO_FATAL_FAILURE(hop(kStock, with_object_));
  ASSERT_NO_FATAL_FAILURE(hop_back(kStock));
}

TEST_F(Fronts, AVmHopsFromQemu7_2To10_0AndBack) {
  ASSERT_VALUE(std::string newer, patched_qemu("10.0"));
  guest_.machine = "pc-q35-7.2";
  ASSERT_NO_FATAL_FAILURE(hop(with_object_, newer));
  ASSERT_NO_FATAL_FAILURE(hop_back(with_object_));
}

TEST_F(Fronts, AVmHopsFromQemu10_0ToItsPreloadedTwinAndBack) {
  ASSERT_VALUE(std::string newer, patched_qemu("10.0"));
  ASSERT_NO_FATAL_FAILURE(hop(newer, newer));
  guest_.qemu = newer;
  ASSERT_VALUE(running_, source_->receive(kVm, guest_.qemu_command(source_->place()),
                                          {"--front", "preload"}));
  ASSERT_OK(console_->attach(source_->place().console, within(60s)));
  ASSERT_VALUE(Process relocating, destination_->relocate(kVm, source_->endpoint()));
  ASSERT_VALUE(Finished finished, finish(relocating, within(60s)));
  ASSERT_TRUE(finished.status.clean()) << finished.describe();
  ASSERT_VALUE(nlohmann::json status, source_->status(kVm));
  EXPECT_EQ(text_of(status, "front"), "preload");
  EXPECT_OK(guest_goes_on());
}

TEST_F(Fronts, AnObjectThatQemuLacksIsRefused) {
  guest_.qemu = kStock;
  ASSERT_VALUE(Process starting,
               destination_->start_receiving(kVm, guest_.qemu_command(destination_->place()),
                                             {"--front", "object"}));
  ASSERT_VALUE(Finished refused, finish(starting, within(30s)));
  EXPECT_EQ(refused.status.shell_code(), kExitSupervisor) << refused.describe();
  EXPECT_NE(refused.err.find("has no memory-backend-postcopy"), std::string::npos)
      << refused.describe();
}

TEST_F(Fronts, TheObjectTellsByQmpHowFarItsMemoryIs) {
  guest_.qemu = with_object_;
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(slow_down());
  ASSERT_VALUE(Process relocating, start_relocation());
  ASSERT_OK(wait_for_state(*destination_, "arriving"));
  // Its main loop may wait for a page now and then, but not for ever: pages come, slowly.
  ASSERT_VALUE(nlohmann::json drained, property("drained"));
  ASSERT_VALUE(nlohmann::json early, property("resident"));
  EXPECT_EQ(drained, false);
  EXPECT_LT(early.get<uint64_t>(), guest_.ram_mib << 20);
  ASSERT_OK(speed_up());
  ASSERT_VALUE(Finished finished, finish(relocating, within(60s)));
  ASSERT_TRUE(finished.status.clean()) << finished.describe();
  ASSERT_OK(runs_at_destination());
  ASSERT_VALUE(nlohmann::json late, property("resident"));
  ASSERT_VALUE(nlohmann::json faults, property("faults"));
  ASSERT_VALUE(drained, property("drained"));
  EXPECT_EQ(drained, true);
  EXPECT_GT(late.get<uint64_t>(), early.get<uint64_t>());
  EXPECT_GT(faults.get<uint64_t>(), 0U);
}

// Faults and precaching in whole huge pages.
class HugePages : public HopTest {
 protected:
  static constexpr const char* kReserved = "/proc/sys/vm/nr_hugepages";
  void SetUp() override {
    HopTest::SetUp();
    guest_.ram_mib = 64;
    guest_.more = {"-object", "memory-backend-postcopy,id=huge,size=64M,hugetlb=on,hugetlbsize=2M"};
    ASSERT_VALUE(before_, read_file(kReserved, 64));
    ASSERT_OK(reserve("80"));  // for both hosts, and a few
  }
  void TearDown() override {
    HopTest::TearDown();
    for (auto* process : {&running_, &receiving_})
      process->reset();
    EXPECT_OK(reserve(before_));
  }
  static Status reserve(const std::string& pages) {
    UniqueFd file(::open(kReserved, O_WRONLY | O_CLOEXEC));
    if (!file.valid() || ::write(file.get(), pages.data(), pages.size()) < 0) {
      return Error::from_errno(kReserved, errno);
    }
    return ok_status();
  }
  std::string before_;
};

TEST_F(HugePages, HopWhole) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(Finished finished, relocate());
  ASSERT_TRUE(finished.status.clean()) << finished.describe();
  ASSERT_OK(runs_at_destination());
  nlohmann::json report = finished.json();
  EXPECT_EQ(number_of(report, "pages_faulted") + number_of(report, "pages_precached") +
                number_of(report, "pages_hole"),
            32U)
      << report;
}

TEST_F(HugePages, ThatAreNotThereAreRefusedByTheirNumber) {
  ASSERT_OK(reserve("1"));
  if (std::string(lab_front()) == "object") return;  // QEMU itself says what it cannot have
  ASSERT_VALUE(Process starting,
               destination_->start_receiving(kVm, guest_.qemu_command(destination_->place())));
  ASSERT_VALUE(Finished refused, finish(starting, within(30s)));
  EXPECT_EQ(refused.status.shell_code(), kExitSupervisor) << refused.describe();
  EXPECT_NE(refused.err.find("32 huge pages of 2048 KiB are needed"), std::string::npos)
      << refused.describe();
}

}  // namespace
}  // namespace vmhop::lab

// A guest without an operating system hops, on each accelerator, and finds its memory right.
#include <sys/stat.h>

#include "cli/json_access.h"
#include "tests/integration/hop_test.h"
#include "tests/lab/witness_log.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

class Baremetal : public HopTest {
 protected:
  Status runs_in_plain_qemu() const;
};

Status Baremetal::runs_in_plain_qemu() const {
  ProcessSpec spec;
  spec.argv = guest_.qemu_command(place_in(network_->directory()));
  spec.output = network_->directory() + "/plain-qemu";
  VMHOP_ASSIGN(Process qemu, Process::start(spec));
  VMHOP_ASSIGN(auto console, GuestConsole::create());
  auto passed = console->attach(place_in(network_->directory()).console, within(5s));
  if (passed) {
    auto line = console->wait_for_prefix("BM PASS", within(30s));
    if (!line) passed = line.error();
  }
  return passed ? ok_status() : Status(passed.error().with(qemu.err()));
}

TEST_F(Baremetal, HopsUnderTcg) {
  guest_.arguments = "populate=alternate zeros=16";
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(relocates_well());
}

// Two regions, each with its own file, mapping, userfaultfd and layout. The guest's memory is one
// piece: it checks both.
TEST_F(Baremetal, HopsWithTheMemoryOfTwoNumaNodes) {
  guest_.machine = "pc";  // a microvm has no nodes
  guest_.more = {"-object", "memory-backend-postcopy,id=near,size=64M",
                 "-object", "memory-backend-postcopy,id=far,size=64M",
                 "-numa",   "node,memdev=near",
                 "-numa",   "node,memdev=far"};
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(relocates_well());
}

TEST_F(Baremetal, HopsOverPlainLanes) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(Finished finished, relocate({"--plain-data"}));
  ASSERT_TRUE(finished.status.clean()) << finished.describe();
  EXPECT_OK(runs_at_destination());
}

// However slow the machine is, it takes at least as long as that rate allows.
TEST_F(Baremetal, HopsWithNoMoreBandwidthThanItMayTake) {
  guest_.arguments = "mib=64";
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(Finished finished, relocate({"--bandwidth", "32MB"}));
  ASSERT_TRUE(finished.status.clean()) << finished.describe();
  nlohmann::json report = finished.json();
  auto precached = static_cast<double>(number_of(report, "pages_precached") * 4096);
  EXPECT_GE(report["drained_ms"].get<double>(), 0.9 * precached / 32e3) << finished.describe();
  EXPECT_OK(runs_at_destination());
}

TEST_F(Baremetal, ReportsWhatItDid) {
  guest_.arguments = "mib=64";
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(Finished finished, relocate());
  nlohmann::json report = finished.json();
  EXPECT_EQ(text_of(report, "state"), "drained") << finished.describe();
  EXPECT_EQ(text_of(report, "front"), lab_front());
  EXPECT_EQ(text_of(report, "transport"), "tcp");
  EXPECT_EQ(number_of(report, "ram_mib"), guest_.ram_mib);
  EXPECT_GT(report["blackout_ms"].get<double>(), 0);
  EXPECT_GE(report["drained_ms"].get<double>(), 0);
  // What the guest touched travelled, its holes did not.
  uint64_t pages = number_of(report, "pages_faulted") + number_of(report, "pages_precached");
  EXPECT_GE(pages, uint64_t{62 * 256});
  EXPECT_LE(pages, uint64_t{66 * 256});
}

// KVM is hardware that a machine has, has not, or has and cannot use (nested, for instance). What
// QEMU alone cannot run there is no promise of vmhop's.
TEST_F(Baremetal, HopsUnderKvm) {
  struct stat device {};
  if (::stat("/dev/kvm", &device) != 0) GTEST_SKIP() << "there is no /dev/kvm";
  guest_.accel = "kvm";
  guest_.ram_mib = 64;
  if (auto without_vmhop = runs_in_plain_qemu(); !without_vmhop) {
    GTEST_SKIP() << "KVM does not run the bare-metal guest here: "
                 << without_vmhop.error().message();
  }
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_OK(relocates_well());
}

}  // namespace
}  // namespace vmhop::lab

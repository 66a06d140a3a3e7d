// A whole relocation between two kernels.
#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's

#include <filesystem>
#include <optional>

#include "tests/integration/expect_ok.h"
#include "tests/lab/baremetal_guest.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/vmhop_host.h"
#include "tests/lab/witness_log.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

constexpr const char* kVm = "vm";
// Everything in a User Mode Linux takes many times as long as elsewhere.
constexpr std::chrono::seconds kPatience{120};

class HostsRelocate : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = "/tmp/vmhop-hop-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    directory_ = path;
    ASSERT_VALUE(source_, UmlHost::find("source"));
    ASSERT_VALUE(destination_, UmlHost::find("destination"));
    ASSERT_VALUE(console_, GuestConsole::create());
    guest_.kernel = VMHOP_LAB_BAREMETAL;
    guest_.ram_mib = 64;
  }
  void TearDown() override {
    console_.reset();
    std::filesystem::remove_all(directory_);
  }

  std::string directory_;
  std::optional<UmlHost> source_;
  std::optional<UmlHost> destination_;
  std::unique_ptr<GuestConsole> console_;
  BaremetalGuest guest_;
};

TEST_F(HostsRelocate, AVmThatGoesOnWithItsMemoryWhole) {
  ASSERT_VALUE(VmhopHost source, VmhopHost::create(*source_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(VmhopHost destination,
               VmhopHost::create(*destination_, directory_, VMHOP_LAB_PROGRAM));
  ASSERT_VALUE(Process running, source.run(kVm, guest_.qemu_command(source.place())));
  ASSERT_OK(console_->attach(source.place().console, within(kPatience)));
  ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience)));

  ASSERT_VALUE(Process receiving,
               destination.receive(kVm, guest_.qemu_command(destination.place())));
  ASSERT_OK(console_->attach(destination.place().console, within(kPatience)));
  ASSERT_VALUE(Process relocating, source.relocate(kVm, destination.endpoint()));
  ASSERT_VALUE(Finished relocated, finish(relocating, within(kPatience)));
  ASSERT_TRUE(relocated.status.clean()) << relocated.describe();
  EXPECT_EQ(relocated.json().value("state", ""), "drained") << relocated.describe();

  // Two: the first one may have begun before.
  size_t now = console_->log().size();
  ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience), now));
  ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience), console_->log().size()));
  auto report = read_baremetal(console_->log().lines());
  EXPECT_TRUE(report.sound()) << report.describe();
  EXPECT_OK(destination.monitor(within(kPatience)));
}

}  // namespace
}  // namespace vmhop::lab

// A Linux guest, its web server's client and its disk, hop after hop.
#include <gtest/gtest.h>

#include "tests/integration/expect_ok.h"
#include "tests/lab/balloons.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/http_probe.h"
#include "tests/lab/linux_guest.h"
#include "tests/lab/network.h"
#include "tests/lab/shared_disk.h"
#include "tests/lab/vmhop_host.h"
#include "tests/lab/witness_log.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

constexpr const char* kVm = "linux";
constexpr uint64_t kRamMib = 384;
constexpr uint64_t kWitnessMib = 160;
constexpr uint64_t kInflatedMib = 300;  // what the balloon leaves the guest

class Linux : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_VALUE(network_, Network::create());
    hosts_.reserve(2);
    for (const char* name : {"source", "destination"}) {
      ASSERT_VALUE(VmhopHost host, VmhopHost::create(*network_, name, lab_vmhop()));
      hosts_.push_back(std::move(host));
    }
    ASSERT_VALUE(console_, GuestConsole::create());
    ASSERT_VALUE(guest_.image, find_guest_image(VMHOP_LAB_SOURCES, network_->directory()));
    ASSERT_VALUE(disk_, SharedDisk::create(network_->directory()));
    guest_.ram_mib = kRamMib;
    guest_.witness_mib = kWitnessMib;
    guest_.disk = disk_->path();
    guest_.tap = Network::kTap;
    guest_.balloon = true;
  }

  Status boot() {
    VMHOP_ASSIGN(supervisor_, hosts_[0].run(kVm, guest_.qemu_command(hosts_[0].place())));
    VMHOP_TRY(console_->attach(hosts_[0].place().console, within(60s)));
    auto ready = console_->wait_for_prefix("READY ", within(180s));
    if (!ready) return ready.error();
    ProbeSpec probe;
    probe.address = Network::kGuestAddress;
    probe.www = guest_.image + "/www";
    VMHOP_ASSIGN(probe_, HttpProbe::start(network_->client(), probe));
    return probe_->wait_for_answers(10, within(60s));
  }

  enum class Balloon { kRests, kWorks };

  // From hosts_[at] to the other one, and on there.
  Status hop(size_t at, Balloon balloon) {
    const VmhopHost& from = hosts_[at];
    const VmhopHost& to = hosts_[1 - at];
    VMHOP_ASSIGN(auto receiving, to.receive(kVm, guest_.qemu_command(to.place())));
    VMHOP_TRY(console_->attach(to.place().console, within(60s)));
    std::unique_ptr<Balloons> balloons;
    if (balloon == Balloon::kWorks) {
      VMHOP_ASSIGN(auto here, from.monitor(within(10s)));
      VMHOP_ASSIGN(auto there, to.monitor(within(10s)));
      balloons = std::make_unique<Balloons>(std::move(here), std::move(there),
                                            BalloonSizes{kInflatedMib, kRamMib});
      VMHOP_TRY(passes());
    }
    VMHOP_ASSIGN(auto relocating, from.relocate(kVm, to.endpoint()));
    VMHOP_ASSIGN(auto relocated, finish(relocating, within(120s)));
    if (!relocated.status.clean()) return Error("vmhop relocate: " + relocated.describe());
    VMHOP_ASSIGN(auto left, finish(*supervisor_, within(30s)));
    if (!left.status.clean()) return Error("vmhop run: " + left.describe());
    supervisor_.emplace(std::move(receiving));
    VMHOP_TRY(probe_->wait_for_answers(10, within(60s)));
    return passes();
  }

  // A whole pass of the witness from now on, and nothing wrong ever.
  Status passes() {
    auto wanted = read_witness(console_->log().lines()).passes + 2;
    auto passed = console_->wait_for(
        [wanted](const Line& line) {
          auto beat = parse_heartbeat(line.text);
          return beat && beat->passes >= wanted;
        },
        within(120s), console_->log().size());
    if (!passed) return passed.error();
    auto report = read_witness(console_->log().lines());
    return report.sound() ? ok_status() : Status(Error(report.describe()));
  }

  Status ends_well() {
    ProbeReport answers = probe_->report();
    if (answers.failed > 0) return errorf("{} requests failed", answers.failed);
    VMHOP_TRY(console_->send("POWEROFF"));
    VMHOP_ASSIGN(auto ended, finish(*supervisor_, within(60s)));
    if (!ended.status.clean()) return Error(ended.describe());
    VMHOP_TRY(disk_->check_filesystem());
    auto synced = read_witness(console_->log().lines()).synced;
    if (synced == 0) return Error("the guest never synced its disk");
    return disk_->check_records(guest_.image + "/witness", synced);
  }

  LinuxGuest guest_;
  std::unique_ptr<Network> network_;
  std::vector<VmhopHost> hosts_;
  std::optional<SharedDisk> disk_;
  std::unique_ptr<GuestConsole> console_;
  std::optional<Process> supervisor_;
  std::unique_ptr<HttpProbe> probe_;
};

TEST_F(Linux, HopsThereAndBackAndThereAgain) {
  ASSERT_OK(boot());
  ASSERT_OK(hop(0, Balloon::kRests));
  ASSERT_OK(hop(1, Balloon::kRests));
  ASSERT_OK(hop(0, Balloon::kRests));
  EXPECT_OK(ends_well());
}

TEST_F(Linux, KeepsEveryByteWhileItsBalloonWorks) {
  ASSERT_OK(boot());
  ASSERT_OK(hop(0, Balloon::kWorks));
  ASSERT_OK(hop(1, Balloon::kWorks));
  ASSERT_OK(hop(0, Balloon::kWorks));
  EXPECT_OK(ends_well());
}

}  // namespace
}  // namespace vmhop::lab

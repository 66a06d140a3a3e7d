// A Linux guest by RDMA from one kernel to another while its balloon works.
#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's

#include <filesystem>
#include <optional>

#include "tests/integration/expect_ok.h"
#include "tests/lab/balloons.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/linux_guest.h"
#include "tests/lab/vmhop_host.h"
#include "tests/lab/witness_log.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

constexpr const char* kVm = "linux";
constexpr uint64_t kRamMib = 192;
constexpr uint64_t kInflatedMib = 150;
// Everything in a User Mode Linux takes many times as long as elsewhere.
constexpr std::chrono::seconds kPatience{240};

class LinuxByRdma : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = "/tmp/vmhop-hop-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    directory_ = path;
    hosts_.reserve(2);
    umls_.reserve(2);
    for (const char* name : {"source", "destination"}) {
      ASSERT_VALUE(UmlHost uml, UmlHost::find(name));
      umls_.push_back(std::move(uml));
    }
    for (const UmlHost& uml : umls_) {
      ASSERT_VALUE(VmhopHost host, VmhopHost::create(uml, directory_, lab_vmhop()));
      hosts_.push_back(std::move(host));
    }
    ASSERT_VALUE(console_, GuestConsole::create());
    ASSERT_VALUE(guest_.image, find_guest_image(VMHOP_LAB_SOURCES, directory_));
    guest_.ram_mib = kRamMib;
    guest_.witness_mib = 48;
    guest_.balloon = true;
  }
  void TearDown() override {
    console_.reset();
    supervisors_.clear();
    std::filesystem::remove_all(directory_);
  }

  // Two whole passes of the witness from now on, and nothing wrong ever.
  Status passes() {
    auto wanted = read_witness(console_->log().lines()).passes + 2;
    auto passed = console_->wait_for(
        [wanted](const Line& line) {
          auto beat = parse_heartbeat(line.text);
          return beat && beat->passes >= wanted;
        },
        within(kPatience), console_->log().size());
    if (!passed) return passed.error();
    auto report = read_witness(console_->log().lines());
    return report.sound() ? ok_status() : Status(Error(report.describe()));
  }

  // The balloon works from before the memory is registered until after the switch.
  Status hop() {
    const VmhopHost& from = hosts_[0];
    const VmhopHost& to = hosts_[1];
    VMHOP_ASSIGN(auto receiving,
                 to.receive(kVm, guest_.qemu_command(to.place()), {"--rdma-trusted"}));
    supervisors_.push_back(std::move(receiving));
    VMHOP_TRY(console_->attach(to.place().console, within(kPatience)));
    VMHOP_ASSIGN(auto here, from.monitor(within(kPatience)));
    VMHOP_ASSIGN(auto there, to.monitor(within(kPatience)));
    Balloons balloons(std::move(here), std::move(there), {kInflatedMib, kRamMib});
    VMHOP_TRY(passes());
    VMHOP_ASSIGN(auto relocating,
                 from.relocate(kVm, to.endpoint(),
                               {"--rdma-trusted", "--transport", "rdma", "--switch-timeout", "120",
                                "--prepare-timeout", "120"}));
    VMHOP_ASSIGN(auto relocated, finish(relocating, within(kPatience)));
    if (!relocated.status.clean()) return Error("vmhop relocate: " + relocated.describe());
    if (relocated.json().value("transport", "") != "rdma") return Error(relocated.describe());
    return passes();
  }

  LinuxGuest guest_;
  std::string directory_;
  std::vector<UmlHost> umls_;
  std::vector<VmhopHost> hosts_;
  std::unique_ptr<GuestConsole> console_;
  std::vector<Process> supervisors_;
};

// (One hop: a Linux needs minutes here. Back go the bare-metal guest, and Linux by TCP.)
TEST_F(LinuxByRdma, KeepsEveryByteWhileItsBalloonWorks) {
  ASSERT_VALUE(Process running, hosts_[0].run(kVm, guest_.qemu_command(hosts_[0].place())));
  supervisors_.push_back(std::move(running));
  ASSERT_OK(console_->attach(hosts_[0].place().console, within(kPatience)));
  ASSERT_OK(console_->wait_for_prefix("READY ", within(kPatience)));
  ASSERT_OK(hop());
}

}  // namespace
}  // namespace vmhop::lab

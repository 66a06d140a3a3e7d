#include "tests/rdma/hosts_relocate.h"

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's

#include <filesystem>
#include <thread>

#include "tests/lab/witness_log.h"

namespace vmhop::lab {

using namespace std::chrono_literals;

void HostsRelocate::SetUp() {
  std::string path = "/tmp/vmhop-hop-XXXXXX";
  ASSERT_NE(::mkdtemp(path.data()), nullptr);
  directory_ = path;
  ASSERT_VALUE(source_kernel_, UmlHost::find("source"));
  ASSERT_VALUE(destination_kernel_, UmlHost::find("destination"));
  ASSERT_VALUE(source_, VmhopHost::create(*source_kernel_, directory_, lab_vmhop()));
  ASSERT_VALUE(destination_, VmhopHost::create(*destination_kernel_, directory_, lab_vmhop()));
  ASSERT_VALUE(console_, GuestConsole::create());
  guest_.kernel = VMHOP_LAB_BAREMETAL;
  guest_.ram_mib = 64;
}

void HostsRelocate::TearDown() {
  console_.reset();
  supervisors_.clear();
  if (slow_) EXPECT_OK(speed_up());
  std::filesystem::remove_all(directory_);
}

void HostsRelocate::boot() {
  ASSERT_VALUE(Process running, source_->run(kVm, guest_.qemu_command(source_->place())));
  supervisors_.push_back(std::move(running));
  ASSERT_OK(console_->attach(source_->place().console, within(kPatience)));
  ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience)));
}

void HostsRelocate::await(const VmhopHost& host, const std::vector<std::string>& options) {
  ASSERT_VALUE(Process receiving, host.receive(kVm, guest_.qemu_command(host.place()), options));
  supervisors_.push_back(std::move(receiving));
  ASSERT_OK(console_->attach(host.place().console, within(kPatience)));
}

void HostsRelocate::hop(const VmhopHost& from, const VmhopHost& to,
                        const std::vector<std::string>& options, nlohmann::json& report) {
  ASSERT_NO_FATAL_FAILURE(await(to));
  ASSERT_VALUE(Process relocating, from.relocate(kVm, to.endpoint(), options));
  ASSERT_VALUE(Finished relocated, finish(relocating, within(kPatience)));
  ASSERT_TRUE(relocated.status.clean()) << relocated.describe();
  report = relocated.json();
  EXPECT_EQ(report.value("state", ""), "drained") << relocated.describe();
}

void HostsRelocate::start_slow_hop() {
  guest_.ram_mib = 256;
  ASSERT_NO_FATAL_FAILURE(boot());
  ASSERT_NO_FATAL_FAILURE(await(*destination_));
  ASSERT_OK(slow_down());
  ASSERT_VALUE(relocating_, source_->relocate(kVm, destination_->endpoint(),
                                              {"--rdma-trusted", "--transport", "rdma"}));
  auto runs_there = [](std::string_view text) {
    return text.find("runs here; its memory follows") != std::string_view::npos;
  };
  ASSERT_OK(supervisors_.back().wait_for_err(runs_there, within(kPatience)));
}

Status HostsRelocate::slow_down() {
  slow_ = true;
  auto limited = source_->output_of({"tc", "qdisc", "add", "dev", "vec0", "root", "tbf", "rate",
                                     "30mbit", "burst", "64kb", "limit", "16mb"});
  return limited ? ok_status() : Status(limited.error());
}

Status HostsRelocate::speed_up() {
  slow_ = false;
  auto done = source_->output_of({"tc", "qdisc", "del", "dev", "vec0", "root"});
  return done ? ok_status() : Status(done.error());
}

void HostsRelocate::expect_passes() {
  for (int pass = 0; pass < 2; ++pass)  // the first may have begun before
    ASSERT_OK(console_->wait_for_prefix("BM PASS", within(kPatience), console_->log().size()));
  expect_sound();
}

void HostsRelocate::expect_sound() {
  auto report = read_baremetal(console_->log().lines());
  EXPECT_TRUE(report.sound()) << report.describe();
}

Status HostsRelocate::wait_for_status(const VmhopHost& host,
                                      const std::function<bool(const nlohmann::json&)>& wanted) {
  nlohmann::json last;
  for (Deadline deadline = within(kPatience); Clock::now() < deadline;) {
    VMHOP_ASSIGN(last, host.status(kVm));
    if (wanted(last)) return ok_status();
    std::this_thread::sleep_for(200ms);
  }
  return Error("the last status was " + last.dump());
}

}  // namespace vmhop::lab

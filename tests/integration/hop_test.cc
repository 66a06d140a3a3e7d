#include "tests/integration/hop_test.h"

#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "cli/json_access.h"
#include "tests/lab/witness_log.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 60s;

std::vector<std::string> joined(std::vector<std::string> all,
                                const std::vector<std::string>& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace

void HopTest::SetUp() {
  ASSERT_EQ(::geteuid(), 0U) << "the lab makes network namespaces: run the tests as root";
  guest_.kernel = VMHOP_LAB_BAREMETAL;
  ASSERT_VALUE(network_, Network::create(network_spec_));
  ASSERT_VALUE(source_, VmhopHost::create(*network_, "source", lab_vmhop()));
  ASSERT_VALUE(destination_, VmhopHost::create(*network_, "destination", lab_vmhop()));
  ASSERT_VALUE(console_, GuestConsole::create());
}

void HopTest::TearDown() {
  if (network_ != nullptr) {
    for (const std::string& report : sanitizer_reports(network_->directory()))
      ADD_FAILURE() << report;
  }
  if (!HasFailure()) return;
  for (auto* process : {&running_, &receiving_}) {
    if (*process) {
      fmt::print("--- {}\n{}\n", (*process)->output(), last_lines((*process)->err(), 20));
    }
  }
  for (auto* host : {&source_, &destination_}) {
    if (!*host) continue;
    auto status = (*host)->status(kVm);
    fmt::print("--- status at the {}: {}\n", (*host)->name(),
               status ? status->dump() : status.error().message());
  }
}

Status HopTest::boot() {
  VMHOP_ASSIGN(running_, source_->run(kVm, guest_.qemu_command(source_->place())));
  VMHOP_TRY(console_->attach(source_->place().console, within(kPatience)));
  VMHOP_ASSIGN(source_monitor_, source_->monitor(within(kPatience)));
  if (guest_.paused) return ok_status();
  auto passed = console_->wait_for_prefix("BM PASS", within(kPatience));
  return passed ? ok_status() : Status(passed.error());
}

Status HopTest::await() {
  return await(guest_);
}

Status HopTest::await(const BaremetalGuest& guest, const std::vector<std::string>& options) {
  VMHOP_ASSIGN(receiving_, destination_->receive(kVm, guest.qemu_command(destination_->place()),
                                                 joined(destination_options_, options)));
  attempts_ = 0;
  VMHOP_TRY(console_->attach(destination_->place().console, within(kPatience)));
  VMHOP_ASSIGN(destination_monitor_, destination_->monitor(within(kPatience)));
  return ok_status();
}

Status HopTest::await_again() {
  ++attempts_;
  VMHOP_TRY(receiving_->wait_for_err(
      [this](auto text) { return count_of(text, "Waiting for the next attempt") >= attempts_; },
      within(kPatience)));
  VMHOP_TRY(console_->attach(destination_->place().console, within(kPatience)));
  VMHOP_ASSIGN(destination_monitor_, destination_->monitor(within(kPatience)));
  return ok_status();
}

Result<Process> HopTest::start_relocation(const std::vector<std::string>& options) {
  return source_->relocate(kVm, destination_->endpoint(), joined(source_options_, options));
}

Result<Finished> HopTest::relocate(const std::vector<std::string>& options) {
  VMHOP_ASSIGN(Process process, start_relocation(options));
  return finish(process, within(kPatience));
}

Status HopTest::relocate_slowly() {
  VMHOP_TRY(boot());
  VMHOP_TRY(await());
  VMHOP_TRY(slow_down());
  VMHOP_ASSIGN(relocating_, start_relocation());
  VMHOP_TRY(wait_for_event(*destination_monitor_, "RESUME"));
  // vmhop has told it, too.
  VMHOP_TRY(wait_for_state(*destination_, "arriving"));
  return wait_for_state(*source_, "leaving");
}

Status HopTest::slow_down() {
  return network_->set_rate("source", kSlow);
}

Status HopTest::speed_up() {
  return network_->set_rate("source", std::nullopt);
}

Status HopTest::guest_goes_on() {
  size_t now = console_->log().size();
  for (int pass = 0; pass < 2; ++pass) {
    auto passed = console_->wait_for_prefix("BM PASS", within(kPatience), now);
    if (!passed) return passed.error();
    now = console_->log().size();
  }
  auto report = read_baremetal(console_->log().lines());
  return report.sound() ? ok_status() : Status(Error(report.describe()));
}

Status HopTest::runs_on_at_source() {
  VMHOP_ASSIGN(std::string state, state_at(*source_));
  if (state != "running") return errorf("the VM is {} at the source", state);
  return guest_goes_on();
}

Status HopTest::runs_at_destination() {
  VMHOP_TRY(wait_for_state(*destination_, "running"));
  return guest_goes_on();
}

Status HopTest::relocates_well() {
  VMHOP_ASSIGN(Finished finished, relocate());
  if (!finished.status.clean()) return Error("vmhop relocate: " + finished.describe());
  if (text_of(finished.json(), "state") != "drained") return Error(finished.describe());
  VMHOP_TRY(runs_at_destination());
  VMHOP_ASSIGN(Finished ended, finish(*running_, within(kPatience)));
  if (!ended.status.clean()) return Error("vmhop run: " + ended.describe());
  return nothing_left_at("source");
}

Status HopTest::no_process_left_at(const std::string& host) {
  auto deadline = within(20s);
  for (auto processes = processes_in({network_->host(host).fd()}); !processes.empty();
       processes = processes_in({network_->host(host).fd()})) {
    UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, processes[0], 0)));
    if (!process.valid()) continue;
    VMHOP_ASSIGN(short ended, wait_fd(process.get(), POLLIN, milliseconds_until(deadline)));
    if (ended != 0) continue;
    auto command = read_file(fmt::format("/proc/{}/cmdline", processes[0]), 4096);
    return errorf("process {} ({}) still runs at the {}", processes[0],
                  command ? command->c_str() : "?", host);
  }
  return ok_status();
}

Status HopTest::nothing_left_at(const std::string& host) {
  VMHOP_TRY(no_process_left_at(host));
  const VmhopHost& where = host == "source" ? *source_ : *destination_;
  std::error_code ignored;
  for (const auto& left : std::filesystem::directory_iterator(where.runtime_directory(), ignored)) {
    // But for what `vmhop report` tells of it.
    if (left.path().filename() != ".relocations") return errorf("{} is left", left.path().string());
  }
  return ok_status();
}

Result<std::string> HopTest::state_at(const VmhopHost& host) {
  VMHOP_ASSIGN(nlohmann::json status, host.status(kVm));
  return text_of(status, "state");
}

Status HopTest::wait_for_state(const VmhopHost& host, const std::string& state) {
  auto deadline = within(kPatience);
  std::string seen;
  do {
    VMHOP_ASSIGN(seen, state_at(host));
    if (seen == state) return ok_status();
  } while (Clock::now() < deadline);
  return errorf("the VM at the {} is {}, not {}", host.name(), seen, state);
}

Status HopTest::kill_qemu(const VmhopHost& host) {
  VMHOP_ASSIGN(nlohmann::json status, host.status(kVm));
  VMHOP_ASSIGN(ProcessIdentity qemu,
               identify_process(static_cast<pid_t>(number_of(status, "qemu_pid"))));
  return signal_process(qemu, SIGKILL);
}

Status HopTest::kill(const VmhopHost& host, ProcessIdentity VmRecord::*who) {
  auto record = read_vm_record(host.runtime_directory() + "/" + kVm);
  if (!record) return Error("there is no record of the VM");
  ProcessIdentity identity = (*record).*who;
  if (!is_alive(identity)) return Error("it is not alive");
  VMHOP_TRY(signal_process(identity, SIGKILL));
  auto deadline = within(kPatience);
  while (is_alive(identity)) {
    if (milliseconds_until(deadline) == 0) return Error("it does not die");
    std::this_thread::sleep_for(1ms);  // nobody tells: it is another process's child
  }
  return ok_status();
}

std::string HopTest::mark_of(const VmhopHost& host) {
  return host.runtime_directory() + "/" + kVm + "/death";
}

void HopTest::stop_before(VmhopHost& host, const std::string& event) {
  host.set_environment("LD_PRELOAD", VMHOP_DIES_BEFORE_IT_TELLS);
  host.set_environment("VMHOP_TEST_DEATH", mark_of(host));
  host.set_environment("VMHOP_TEST_EVENT", event);
  host.set_environment("VMHOP_TEST_THEN", "stop");
}

void HopTest::stop_after(VmhopHost& host, const std::string& event) {
  stop_before(host, event);
  host.set_environment("VMHOP_TEST_THEN", "stop after");
}

Result<ProcessIdentity> HopTest::wait_until_stopped(const VmhopHost& host) {
  for (auto deadline = within(kPatience); Clock::now() < deadline;) {
    auto text = read_file(mark_of(host), 32);
    if (text && text->ends_with('\n')) {
      VMHOP_ASSIGN(ProcessIdentity process, identify_process(std::stoi(*text)));
      auto stat = read_file(fmt::format("/proc/{}/stat", process.pid), 4096);
      if (stat && stat->find(") T ") != std::string::npos) return process;
    }
    std::this_thread::sleep_for(2ms);  // nobody tells: it is another process's child
  }
  return Error("nobody was stopped at the " + host.name());
}

Status HopTest::go_on(const ProcessIdentity& stopped) {
  return is_alive(stopped) ? signal_process(stopped, SIGCONT) : ok_status();
}

Result<Process> HopTest::recover(const VmhopHost& host) {
  VMHOP_ASSIGN(Process recovering, host.start({"recover", kVm, "--key", host.key()}));
  auto deadline = within(kPatience);
  for (;;) {
    auto status = host.status(kVm);
    if (status && flag_of(*status, "supervisor", false)) return recovering;
    if (!recovering.running()) return recovering;  // done at once
    if (milliseconds_until(deadline) == 0) return Error("nobody supervises the VM");
    std::this_thread::sleep_for(20ms);
  }
}

size_t count_of(std::string_view text, std::string_view wanted) {
  size_t count = 0;
  for (size_t at = text.find(wanted); at != std::string_view::npos;
       at = text.find(wanted, at + wanted.size()))
    ++count;
  return count;
}

Status wait_for_event(QmpClient& monitor, const std::string& name, const std::string& status) {
  auto deadline = within(kPatience);
  for (;;) {
    auto event = monitor.next_event(std::chrono::milliseconds(milliseconds_until(deadline)));
    if (!event) return event.error().with("waiting for QEMU's " + name + " " + status);
    if (event->name != name) continue;
    if (status.empty() || text_of(event->data, "status") == status) return ok_status();
  }
}

}  // namespace vmhop::lab

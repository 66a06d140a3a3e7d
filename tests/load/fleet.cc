#include "tests/load/fleet.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include <algorithm>
#include <filesystem>

#include "cli/json_access.h"
#include "cli/vm_record.h"
#include "tests/lab/connect_when_there.h"
#include "tests/lab/namespace.h"
#include "tests/lab/witness_log.h"

namespace vmhop::load {
namespace {

using namespace std::chrono_literals;
using lab::within;
namespace fs = std::filesystem;

// Many QEMUs on few CPUs.
constexpr auto kPatience = 300s;
constexpr uint16_t kFirstPort = 5000;

}  // namespace

Result<std::unique_ptr<Fleet>> Fleet::create() {
  auto fleet = std::make_unique<Fleet>();
  VMHOP_ASSIGN(fleet->network_, lab::Network::create());
  for (const char* name : {"source", "destination"}) {
    VMHOP_ASSIGN(lab::VmhopHost host,
                 lab::VmhopHost::create(*fleet->network_, name, lab::lab_vmhop()));
    fleet->hosts_.push_back(std::move(host));
  }
  return fleet;
}

// Of its own for each QEMU: the former one's sockets may not be gone yet.
lab::QemuPlace Fleet::place(const Vm& vm, unsigned host) const {
  return lab::place_in(fmt::format("{}/{}-{}", hosts_[host].directory(), vm.name, hops_));
}

Status Fleet::add(unsigned host, uint64_t ram_mib) {
  Vm vm;
  vm.name = fmt::format("vm{}", vms_.size());
  vm.port = static_cast<uint16_t>(kFirstPort + vms_.size());
  vm.host = host;
  vm.guest.kernel = VMHOP_LAB_BAREMETAL;
  vm.guest.ram_mib = ram_mib;
  lab::QemuPlace here = place(vm, host);
  fs::create_directories(fs::path(here.console).parent_path());
  VMHOP_ASSIGN(vm.supervisor, hosts_[host].run(vm.name, vm.guest.qemu_command(here)));
  VMHOP_ASSIGN(vm.console, lab::GuestConsole::create());
  VMHOP_TRY(vm.console->attach(here.console, within(kPatience)));
  auto passed = vm.console->wait_for_prefix("BM PASS", within(kPatience));
  if (!passed) return passed.error();
  vms_.push_back(std::move(vm));
  return ok_status();
}

Status Fleet::await(Vm& vm) {
  const lab::VmhopHost& there = hosts_[1 - vm.host];
  lab::QemuPlace its = place(vm, 1 - vm.host);
  fs::create_directories(fs::path(its.console).parent_path());
  std::vector<std::string> arguments = {
      "receive", vm.name, "--listen", fmt::format(":{}", vm.port), "--key", there.key(), "--"};
  for (const std::string& argument : vm.guest.qemu_command(its))
    arguments.push_back(argument);
  VMHOP_ASSIGN(vm.next, there.start(arguments));
  VMHOP_TRY(vm.next->wait_for_err(
      [](auto text) { return text.find(": receiving on ") != std::string_view::npos; },
      within(kPatience)));
  return vm.console->attach(its.console, within(kPatience));
}

Result<lab::Process> Fleet::relocate(const Vm& vm) const {
  const lab::VmhopHost& there = hosts_[1 - vm.host];
  std::string address = there.endpoint().substr(0, there.endpoint().rfind(':'));
  return hosts_[vm.host].relocate(vm.name, fmt::format("{}:{}", address, vm.port),
                                  {"--switch-timeout", "120", "--prepare-timeout", "120"});
}

Status Fleet::set_running(const Vm& vm, bool runs) const {
  VMHOP_ASSIGN(UniqueFd socket,
               lab::connect_when_there(place(vm, vm.host).monitor, within(kPatience)));
  VMHOP_ASSIGN(QmpClient monitor, QmpClient::over(std::move(socket), within(kPatience)));
  VMHOP_TRY(monitor.execute(runs ? "cont" : "stop"));
  return ok_status();
}

Result<std::chrono::duration<double>> Fleet::hop(bool paused) {
  if (paused) {
    for (const Vm& vm : vms_)
      VMHOP_TRY(set_running(vm, false));
  }
  ++hops_;
  for (Vm& vm : vms_)
    VMHOP_TRY(await(vm));
  auto started = lab::Clock::now();
  std::vector<lab::Process> relocating;
  for (const Vm& vm : vms_) {
    VMHOP_ASSIGN(lab::Process process, relocate(vm));
    relocating.push_back(std::move(process));
  }
  for (lab::Process& process : relocating) {
    VMHOP_ASSIGN(lab::Finished finished, lab::finish(process, within(kPatience)));
    if (!finished.status.clean()) return Error("vmhop relocate: " + finished.describe());
  }
  std::chrono::duration<double> took = lab::Clock::now() - started;
  for (Vm& vm : vms_) {
    VMHOP_ASSIGN(lab::Finished left, lab::finish(*vm.supervisor, within(kPatience)));
    if (!left.status.clean()) return Error("vmhop run: " + left.describe());
    *vm.supervisor = std::move(*vm.next);
    vm.next.reset();
    vm.host = 1 - vm.host;
    if (paused) VMHOP_TRY(set_running(vm, true));
  }
  return took;
}

Status Fleet::attempt_in_vain() {
  for (const Vm& vm : vms_) {
    // Nobody waits there: the exporter is started, dials, and gives up.
    VMHOP_ASSIGN(lab::Process process, relocate(vm));
    VMHOP_ASSIGN(lab::Finished finished, lab::finish(process, within(kPatience)));
    if (finished.status.clean()) return Error("it went to a host where nobody waits");
  }
  return ok_status();
}

Status Fleet::verify() {
  std::vector<size_t> from;
  for (const Vm& vm : vms_)
    from.push_back(vm.console->log().size());
  for (int pass = 0; pass < 2; ++pass) {
    for (size_t i = 0; i < vms_.size(); ++i) {
      auto passed = vms_[i].console->wait_for_prefix("BM PASS", within(kPatience), from[i]);
      if (!passed) return passed.error().with(vms_[i].name);
      from[i] = vms_[i].console->log().size();
    }
  }
  for (const Vm& vm : vms_) {
    auto report = lab::read_baremetal(vm.console->log().lines());
    if (!report.sound()) return errorf("{}: {}", vm.name, report.describe());
  }
  return ok_status();
}

Result<std::vector<int>> Fleet::pids() const {
  std::vector<int> pids;
  for (const Vm& vm : vms_) {
    auto record = read_vm_record(hosts_[vm.host].runtime_directory() + "/" + vm.name);
    if (!record) return errorf("{} has no record", vm.name);
    pids.push_back(record->supervisor.pid);
    pids.push_back(record->qemu.pid);
  }
  return pids;
}

std::vector<std::string> Fleet::strays() const {
  std::vector<std::string> found;
  auto known = pids();
  if (!known) return {known.error().message()};
  for (unsigned host = 0; host < 2; ++host) {
    for (pid_t pid : lab::processes_in({network_->host(hosts_[host].name()).fd()})) {
      if (std::find(known->begin(), known->end(), pid) == known->end())
        found.push_back(fmt::format("process {} at the {}", pid, hosts_[host].name()));
    }
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(hosts_[host].runtime_directory(), ignored)) {
      bool here = std::any_of(vms_.begin(), vms_.end(), [&](const Vm& vm) {
        return vm.host == host && vm.name == entry.path().filename();
      });
      bool report = entry.path().filename() == ".relocations";
      if (!here && !report) found.push_back(entry.path().string());
    }
  }
  return found;
}

}  // namespace vmhop::load

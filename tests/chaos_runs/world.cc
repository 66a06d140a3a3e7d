#include "tests/chaos_runs/world.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's

#include <filesystem>

#include "backend/commit_record.h"

namespace vmhop::chaos {
namespace {

using namespace std::chrono_literals;
using lab::within;

constexpr uint64_t kRamMib = 64;

}  // namespace

Result<std::unique_ptr<World>> World::create(bool rdma) {
  std::unique_ptr<World> world(new World(rdma));
  world->hosts_.reserve(2);
  if (rdma) {
    std::string path = "/tmp/vmhop-chaos-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return Error::from_errno("making a directory", errno);
    world->directory_ = path;
    world->kernels_.reserve(2);
    for (const char* name : {"source", "destination"}) {
      VMHOP_ASSIGN(lab::UmlHost kernel, lab::UmlHost::find(name));
      world->kernels_.push_back(std::move(kernel));
    }
    for (const lab::UmlHost& kernel : world->kernels_) {
      VMHOP_ASSIGN(lab::VmhopHost host, lab::VmhopHost::create(kernel, path, lab::lab_vmhop()));
      world->hosts_.push_back(std::move(host));
    }
  } else {
    VMHOP_ASSIGN(world->network_, lab::Network::create());
    for (const char* name : {"source", "destination"}) {
      VMHOP_ASSIGN(lab::VmhopHost host,
                   lab::VmhopHost::create(*world->network_, name, lab::lab_vmhop()));
      world->hosts_.push_back(std::move(host));
    }
  }
  VMHOP_ASSIGN(world->console_, lab::GuestConsole::create());
  world->guest_.kernel = VMHOP_LAB_BAREMETAL;
  world->guest_.ram_mib = kRamMib;
  return world;
}

World::~World() {
  console_.reset();
  // Two kernels outlive this world, and whatever a killed supervisor left in them.
  for (size_t i = 0; i < kernels_.size(); ++i) {
    auto side = static_cast<Side>(i);
    if (auto left = record(side)) {
      for (const ProcessIdentity& process :
           {left->supervisor, left->exporter, left->pager, left->qemu})
        (void)send(side, process, SIGKILL);
    }
    (void)kernels_[i].join();
  }
  processes_.clear();
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

Status World::boot() {
  const lab::VmhopHost& source = host(Side::kSource);
  VMHOP_ASSIGN(lab::Process running, source.run(kVm, guest_.qemu_command(source.place())));
  processes_.push_back(std::move(running));
  VMHOP_TRY(console_->attach(source.place().console, within(patience())));
  auto passed = console_->wait_for_prefix("BM PASS", within(patience()));
  return passed ? ok_status() : Status(passed.error());
}

Status World::await() {
  const lab::VmhopHost& destination = host(Side::kDestination);
  std::vector<std::string> options;
  if (rdma_) options = {"--rdma-trusted"};
  VMHOP_ASSIGN(lab::Process receiving,
               destination.receive(kVm, guest_.qemu_command(destination.place()), options));
  receiving_ = processes_.size();
  processes_.push_back(std::move(receiving));
  VMHOP_TRY(console_->attach(destination.place().console, within(patience())));
  if (auto started = record(Side::kDestination)) followed_ = started->qemu;
  return ok_status();
}

bool World::ran_at_destination() const {
  return processes_[receiving_].err().find("runs here; its memory follows") != std::string::npos;
}

std::string World::last_words() const {
  constexpr size_t kLines = 12;
  std::string all;
  for (const lab::Process& process : processes_)
    all += fmt::format("--- {}\n{}", process.output(), lab::last_lines(process.err(), kLines));
  return all;
}

bool World::destination_has_another_qemu() {
  auto now = record(Side::kDestination);
  if (!now || now->qemu.pid == 0 || now->qemu == followed_) return false;
  if (!console_->attach(host(Side::kDestination).place().console, within(1s))) return false;
  followed_ = now->qemu;
  return true;
}

Result<lab::Process> World::relocate(const RunPlan& plan) {
  std::vector<std::string> options;
  if (plan.plain_data) options.emplace_back("--plain-data");
  if (rdma_) {
    options.insert(options.end(), {"--rdma-trusted", "--transport", "rdma", "--switch-timeout",
                                   "60", "--prepare-timeout", "60"});
  }
  return host(Side::kSource).relocate(kVm, host(Side::kDestination).endpoint(), options);
}

Status World::set_rate(const std::string& rate) {
  // (The kernels' devices are as slow as that already.)
  if (!network_ || (rate.empty() && !shaped_)) return ok_status();
  shaped_ = !rate.empty();
  return network_->set_rate("source", rate.empty() ? std::nullopt : std::optional(rate));
}

Status World::set_cable(Side side, bool plugged_in) {
  if (network_) {
    return network_->set_link(host(side).name(), plugged_in ? lab::Link::kUp : lab::Link::kDown);
  }
  const lab::UmlHost& kernel = kernels_[static_cast<size_t>(side)];
  return plugged_in ? kernel.join() : kernel.cut();
}

std::optional<VmRecord> World::record(Side side) const {
  return read_vm_record(host(side).runtime_directory() + "/" + kVm);
}

bool World::commit_is_pending() const {
  auto record = read_commit_record(host(Side::kSource).runtime_directory() + "/" + kVm);
  return record && *record && (*record)->outcome == CommitOutcome::kPending;
}

// Its process ids are the host's own.
Status World::send(Side side, const ProcessIdentity& process, int signal) const {
  if (process.pid <= 0) return ok_status();
  if (network_) return signal_process(process, signal);
  (void)host(side).output_of({"kill", fmt::format("-{}", signal), fmt::to_string(process.pid)});
  return ok_status();
}

bool World::is_alive(Side side, const ProcessIdentity& process) const {
  if (process.pid <= 0) return false;
  if (network_) return vmhop::is_alive(process);
  return host(side).output_of({"kill", "-0", fmt::to_string(process.pid)}).ok();
}

nlohmann::json World::status(Side side) const {
  auto status = host(side).status(kVm);
  return status ? *status : nlohmann::json();
}

Status World::start(Side side, const std::vector<std::string>& arguments) {
  VMHOP_ASSIGN(lab::Process process, host(side).start(arguments));
  processes_.push_back(std::move(process));
  return ok_status();
}

Result<QmpClient> World::monitor(Side side) const {
  return host(side).monitor(within(patience()));
}

}  // namespace vmhop::chaos

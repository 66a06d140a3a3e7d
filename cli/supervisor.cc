#include "cli/supervisor.h"

#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "cli/exit_codes.h"
#include "cli/json_access.h"
#include "cli/one_time_key.h"
#include "cli/terminal.h"
#include "cli/transport_options.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kStartTimeout{60};
constexpr std::chrono::seconds kQuitTimeout{10};
constexpr std::chrono::seconds kAbortedExporterEnds{2};
// Its last record is synced, which a busy disk makes it wait for.
constexpr std::chrono::seconds kFinishedExporterWrites{20};
constexpr std::chrono::milliseconds kLookAgain{20};

// What is wrong with a command line is said before its QEMU is asked for anything.
Result<QemuCommand> translate(const std::vector<std::string>& qemu, VmRole role,
                              const std::string& front_choice) {
  VMHOP_ASSIGN(QemuCommand command, QemuCommand::translate(qemu, role, Front::kPreload));
  VMHOP_ASSIGN(Front front, choose_front(front_choice, command.program()));
  if (front == Front::kObject) {
    VMHOP_ASSIGN(command, QemuCommand::translate(qemu, role, front));
  }
  return command;
}

}  // namespace

Result<int> run_vm(const RunOptions& options) {
  TerminalGuard terminal;
  VMHOP_ASSIGN(QemuCommand command, translate(options.qemu, VmRole::kRun, options.front));
  VMHOP_ASSIGN(auto supervisor,
               Supervisor::create(options.name, std::move(command), options.qemu, VmRole::kRun));
  VMHOP_TRY(supervisor->start_vm());
  return supervisor->serve();
}

Result<int> receive_vm(const ReceiveOptions& options) {
  TerminalGuard terminal;
  VMHOP_TRY(check_transport(options.transport));
  VMHOP_ASSIGN(Credentials credentials,
               load_credentials(options.credentials, SessionRole::kDestination));
  VMHOP_ASSIGN(HostPort address, parse_host_port(options.listen));
  VMHOP_ASSIGN(QemuCommand command, translate(options.qemu, VmRole::kReceive, options.front));
  VMHOP_ASSIGN(auto supervisor, Supervisor::create(options.name, std::move(command), options.qemu,
                                                   VmRole::kReceive));
  VMHOP_ASSIGN(UniqueFd listening, listen_tcp(address));
  VMHOP_ASSIGN(address.port, local_port(listening.get()));
  VMHOP_TRY(supervisor->start_receiving(std::move(credentials), options.credentials,
                                        std::move(listening), address.to_string(),
                                        options.transport, options.once));
  return supervisor->serve();
}

Result<int> receive_leased(const ReceiveOptions& options, const Secret& key, ReceiverLease& lease) {
  VMHOP_TRY(check_transport(options.transport));
  VMHOP_ASSIGN(HostPort address, parse_host_port(options.listen));
  VMHOP_ASSIGN(QemuCommand command, translate(options.qemu, VmRole::kReceive, options.front));
  VMHOP_ASSIGN(auto supervisor, Supervisor::create(options.name, std::move(command), options.qemu,
                                                   VmRole::kReceive));
  VMHOP_TRY(supervisor->hold_lease(lease));
  VMHOP_ASSIGN(UniqueFd listening, listen_tcp(address));
  VMHOP_ASSIGN(address.port, local_port(listening.get()));
  VMHOP_TRY(keep_one_time_key(supervisor->directory(), key));
  CredentialsChoice kept{one_time_key_path(supervisor->directory())};
  VMHOP_TRY(supervisor->start_receiving(key.clone(), kept, std::move(listening),
                                        address.to_string(), options.transport, options.once));
  return supervisor->serve();
}

Result<int> serve_pager(const PagerOptions& options) {
  TerminalGuard terminal;
  VMHOP_TRY(check_transport(options.transport));
  VMHOP_ASSIGN(Credentials credentials,
               load_credentials(options.credentials, SessionRole::kDestination));
  VMHOP_ASSIGN(HostPort address, parse_host_port(options.listen));
  VMHOP_ASSIGN(auto supervisor,
               Supervisor::create(options.name, std::nullopt, {}, VmRole::kReceive));
  VMHOP_ASSIGN(UniqueFd listening, listen_tcp(address));
  VMHOP_ASSIGN(address.port, local_port(listening.get()));
  VMHOP_TRY(supervisor->start_receiving(std::move(credentials), options.credentials,
                                        std::move(listening), address.to_string(),
                                        options.transport, options.once));
  return supervisor->serve();
}

Supervisor::Supervisor(NameClaim claim, std::optional<QemuCommand> command, EndSignals signals,
                       std::unique_ptr<EventLoop> loop, const std::string& name, VmRole role)
    : claim_(std::move(claim)),
      command_(std::move(command)),
      signals_(std::move(signals)),
      loop_(std::move(loop)),
      name_(name),
      view_(name, "starting"),
      course_(std::filesystem::path(claim_.paths().directory()).parent_path(), name) {
  record_.vm = name;
  record_.role = role == VmRole::kRun ? "run" : "receive";
  if (auto self = identify_process(::getpid())) record_.supervisor = *self;
  view_.set("role", record_.role);
  record_.front = front_name(command_ ? command_->front() : Front::kObject);
  view_.set("front", record_.front);
  view_.set("pid", record_.supervisor.pid);
  if (!command_) return;
  uint64_t bytes = 0;
  for (const RegionSpec& region : command_->regions())
    bytes += region.size;
  view_.set("ram_mib", bytes >> 20);
}

Supervisor::~Supervisor() {
  join_worker();
  server_.reset();
  leave();
}

Result<std::unique_ptr<Supervisor>> Supervisor::create(const std::string& name,
                                                       std::optional<QemuCommand> command,
                                                       const std::vector<std::string>& qemu,
                                                       VmRole role) {
  VMHOP_ASSIGN(std::string base, runtime_base());
  auto keep = command ? NameClaim::Keep::kNothing : NameClaim::Keep::kMonitors;
  VMHOP_ASSIGN(NameClaim claim, NameClaim::take(base, name, keep));
  VMHOP_ASSIGN(auto self, assemble(std::move(claim), std::move(command), name, role));
  self->record_.argv = qemu;
  return self;
}

Result<std::unique_ptr<Supervisor>> Supervisor::assemble(NameClaim claim,
                                                         std::optional<QemuCommand> command,
                                                         const std::string& name, VmRole role) {
  VMHOP_ASSIGN(EndSignals signals, EndSignals::block());
  VMHOP_ASSIGN(auto loop, EventLoop::create());
  std::unique_ptr<Supervisor> self(new Supervisor(std::move(claim), std::move(command),
                                                  std::move(signals), std::move(loop), name, role));
  VMHOP_ASSIGN(
      self->server_,
      ControlServer::start(*self->loop_, self->claim_.paths().control_socket(),
                           {[raw = self.get()](ClientId client, ControlMessage request) {
                              raw->on_request(client, std::move(request));
                            },
                            [raw = self.get()](ClientId client) { raw->on_client_gone(client); }}));
  self->loop_->set(self->signals_.fd(), POLLIN, [raw = self.get()](short) { raw->on_signal(); });
  return self;
}

Result<int> Supervisor::serve() {
  while (!exit_code_)
    VMHOP_TRY(loop_->run());
  return *exit_code_;
}

// The VM --------------------------------------------------------------------------------------

Status Supervisor::start_vm() {
  VMHOP_ASSIGN(auto vm, VmProcess::start(*command_, claim_.paths(), VmRole::kRun));
  adopt(std::move(vm));
  if (auto watched = watch_vm(); !watched) {
    ExitStatus end = vm_->child().kill_and_reap();
    // QEMU has said what it does not like; its code is the answer.
    if (watched.error().kind() != ErrorKind::kClosed) return watched.error();
    spdlog::error("{}: QEMU {} before the VM was up", name_, end.describe());
    exit_code_ = end.shell_code() == 0 ? kExitSupervisor : end.shell_code();
    return ok_status();
  }
  spdlog::info("{} runs here; `vmhop relocate {} HOST:PORT` moves it", name_, name_);
  return ok_status();
}

void Supervisor::adopt(std::shared_ptr<VmProcess> vm) {
  vm_ = std::move(vm);
  note_vm(vm_->child().identity(), region_records(*vm_));
}

void Supervisor::note_vm(const ProcessIdentity& qemu, std::vector<RegionRecord> regions) {
  record_.qemu = qemu;
  record_.regions = std::move(regions);
  view_.set("qemu_pid", record_.qemu.pid);
  if (uint64_t bytes = ram_bytes(record_.regions); bytes > 0) {
    view_.set("ram_mib", bytes >> 20);
    view_.set("page_bytes", page_bytes(record_.regions));
  }
  write_record();
}

void Supervisor::write_record() {
  if (auto written = write_vm_record(claim_.paths().directory(), record_); !written) {
    spdlog::warn("{}: {}", name_, written.error().message());
  }
}

// From here on the VM is this supervisor's: its events, and its end.
Status Supervisor::watch_vm() {
  VMHOP_ASSIGN(lifecycle_, QmpClient::connect(claim_.paths().lifecycle_qmp(),
                                              QmpClient::Clock::now() + kStartTimeout,
                                              [this] { return vm_->check_alive(); }));
  if (vm_->front() == Front::kObject) {
    VMHOP_TRY(vm_->find_memory());
    note_vm(vm_->child().identity(), region_records(*vm_));
  }
  VMHOP_ASSIGN(json status, lifecycle_->execute("query-status"));
  view_.set_state(flag_of(status, "running", true) ? "running" : "paused");
  loop_->set(lifecycle_->fd(), POLLIN, [this](short) { on_lifecycle_input(); });
  loop_->set(
      vm_->child().pidfd(), POLLIN, [this](short) { on_qemu_exit(); }, 1);
  return ok_status();
}

void Supervisor::on_lifecycle_input() {
  Status read = lifecycle_->process_input();
  while (auto event = lifecycle_->take_event()) {
    if (event->name == "SHUTDOWN") shutdown_seen_ = true;
    // While the VM is being relocated its states are the relocation's.
    if (working_) continue;
    if (event->name == "STOP") view_.set_state("paused");
    if (event->name == "RESUME") view_.set_state("running");
  }
  if (!read) loop_->remove(lifecycle_->fd());
}

void Supervisor::on_qemu_exit() {
  qemu_exit_ = vm_->child().poll();
  if (!qemu_exit_) return;
  if (lifecycle_) on_lifecycle_input();  // its last events
  // Nobody but its parent knows the code of a QEMU that is not ours.
  if (qemu_exit_->unknown && !shutdown_seen_) qemu_exit_->code = kExitFailed;
  loop_->remove(vm_->child().pidfd());
  // Whether this is the VM's end is the relocation's to say.
  if (!working_) finish(qemu_exit_->shell_code());
}

// The worker ----------------------------------------------------------------------------------

SideNews Supervisor::side_news(ProcessIdentity VmRecord::*helper) {
  return {[this](const json& event) { loop_->post([this, event] { on_event(event); }); },
          [this, helper](std::shared_ptr<ChildProcess> child) {
            loop_->post([this, helper, child = std::move(child)] {
              record_.*helper = child->identity();
              write_record();
              reap_when_gone(child);
            });
          }};
}

void Supervisor::reap_when_gone(const std::shared_ptr<ChildProcess>& child) {
  loop_->set(child->pidfd(), POLLIN, [this, child](short) {
    if (child->poll()) loop_->remove(child->pidfd());
  });
}

void Supervisor::on_event(const json& event) {
  bool had_arrived = view_.state() == "arriving";
  view_.on_event(event, VmView::Clock::now());
  tell_lease_holder(event);
  std::string name = text_of(event, "event");
  // Before a source has connected nothing is relocated.
  if (name == "connected" && !course_.under_way()) {
    course_.begin(CourseSide::kDestination, text_of(event, "peer"), view_.to_json());
  }
  course_.on_event(event);
  if (relocating_for_ != 0) server_->send(relocating_for_, event);
  if (name == "resolved" || name == "not_resolved") {
    if (resolving_for_) server_->send(*std::exchange(resolving_for_, std::nullopt), event);
    return;
  }
  if (name == "arrived") answer_operators(Whose::kThisHosts);
  if (name == "given_back") answer_operators(Whose::kTheOthers);
  if (name == "connected") {
    spdlog::info("{}: connected from {}", name_, text_of(event, "peer"));
  } else if (name == "arrived" && !had_arrived) {
    spdlog::info("{} runs here; its memory follows", name_);
  } else if (name == "in_doubt") {
    spdlog::warn(
        "{}: the link was lost after the VM's state was loaded ({}). The source alone knows "
        "whether it gave the VM away: waiting for it",
        name_, text_of(event, "message"));
  } else if (name == "link") {
    spdlog::warn("{}: link {}: {}", name_, flag_of(event, "up", true) ? "up" : "down",
                 text_of(event, "message"));
  }
}

void Supervisor::join_worker() {
  if (worker_.joinable()) worker_.join();
  working_ = false;
}

// The end -------------------------------------------------------------------------------------

void Supervisor::on_signal() {
  while (int number = signals_.take()) {
    bool again = std::exchange(terminating_, true);
    const char* name = ::sigabbrev_np(number);
    spdlog::info("{}: SIG{}: ending{}", name_, name, again ? " at once" : "");
    if (waiting_) refuse(std::exchange(waiting_, std::nullopt)->client, "the VM is being ended");
    if (working_) {
      mailbox_->put(Request::kTerminate, fmt::format("the supervisor was ended by SIG{}", name));
    } else if (!owns_qemu()) {
      finish(kExitDone);  // QEMU is somebody else's, and whole
    } else if (again || !lifecycle_) {
      if (vm_) vm_->child().signal(SIGKILL);
      if (!vm_ || qemu_exit_) finish(kExitDone);
    } else {
      quit_qemu();
    }
  }
}

void Supervisor::quit_qemu() {
  if (!owns_qemu()) return finish(kExitDone);
  if (qemu_exit_) return finish(qemu_exit_->shell_code());
  // Never waited for: a QEMU whose main thread hangs is killed when its time is over.
  if (auto sent = lifecycle_->send("quit"); !sent) vm_->child().signal(SIGKILL);
  loop_->after(kQuitTimeout, [this] {
    if (qemu_exit_) return;
    spdlog::warn("{}: QEMU did not quit and is killed", name_);
    vm_->child().signal(SIGKILL);
  });
}

// The first answer counts: once the VM has left, the end of its QEMU here says nothing.
void Supervisor::finish(int exit_code) {
  if (!exit_code_) exit_code_ = exit_code;
  loop_->stop();
}

// The directory stays while anybody needs it: an exporter with memory, a pager with a message, a
// frozen QEMU.
void Supervisor::leave() {
  Liveness life = look_for_life(claim_.paths());
  // One whose relocation was aborted ends when the destination has heard of it: mostly at once.
  // One that has finished has only to write that down.
  auto patience = exporter_has_finished_ ? kFinishedExporterWrites : kAbortedExporterEnds;
  auto give_up = std::chrono::steady_clock::now() + patience;
  while ((exporter_has_finished_ ? life.commit_recorded : life.exporter && !life.commit_recorded) &&
         std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(kLookAgain);
    life = look_for_life(claim_.paths());
  }
  // Somebody else's that still waits for its VM may be taken by the next.
  if (life.qemu && !owns_qemu() && record_.role == "receive" && !life.pager) record_.qemu = {};
  if (life.exporter || life.pager || life.qemu || life.commit_recorded || keeps_directory_) {
    record_.supervisor = {};
    write_record();
  } else {
    claim_.remove();
  }
}

}  // namespace vmhop

// `vmhop recover`: a new supervisor adopts what a dead one has left running. All that it needs is
// in the VM's runtime directory and in QEMU's own open files.
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <thread>

#include "backend/base/thread_role.h"
#include "backend/session/key_passing.h"
#include "cli/exit_codes.h"
#include "cli/json_access.h"
#include "cli/source_checks.h"
#include "cli/source_rollback.h"
#include "cli/supervisor.h"
#include "cli/terminal.h"

namespace vmhop {
namespace {

// For an exporter to notice that its supervisor is gone, which it does at once unless it is
// stopped.
constexpr std::chrono::seconds kExporterNotices{2};
constexpr std::chrono::milliseconds kLookForItsEnd{20};
constexpr std::chrono::seconds kMonitorTimeout{10};
constexpr std::chrono::seconds kRollBack{15};

// What was said now goes before what is recorded, and that before the host's defaults.
CredentialsChoice choose_credentials(const RecoverOptions& options,
                                     const CredentialsChoice& recorded) {
  CredentialsChoice chosen = options.credentials;
  if (chosen.empty()) return recorded.empty() ? options.default_credentials : recorded;
  if (!chosen.tls_creds.empty()) chosen.tls_names = recorded.tls_names;
  return chosen;
}

Result<Credentials> needed_credentials(const CredentialsChoice& choice, SessionRole role) {
  auto credentials = load_credentials(choice, role);
  if (credentials) return credentials;
  return refusedf("going on with the relocation needs the key or the certificates: {}",
                  credentials.error().message());
}

// When this returns nothing of it can act any more.
void end_helper(const ProcessIdentity& helper) {
  if (!is_alive(helper)) return;
  auto process = ChildProcess::adopt(helper.pid);
  if (process && (*process)->identity() == helper) (*process)->kill_and_reap();
}

// What is left when there is no QEMU to adopt, and what to do about it.
Error nothing_to_adopt(const std::string& name, const VmRecord& record, const VmPaths& paths) {
  Liveness life = look_for_life(paths);
  if (life.exporter) {
    return refusedf(
        "nothing to recover: {0} was given to {1}, and its exporter goes on by itself until {0} is "
        "whole there. `vmhop status {0}` follows it",
        name, record.peer);
  }
  if (life.pager) {
    return refusedf(
        "nothing to recover: QEMU of {0} is gone from this host, and its pager waits to tell the "
        "source. `vmhop drop {0}` ends that",
        name);
  }
  if (life.commit_recorded) {
    return refusedf(
        "{0} was given to {1}, and every process here that had its memory is gone: what {1} has "
        "not fetched is lost. `vmhop drop {0}` removes the records",
        name, record.peer);
  }
  if (record.role == "receive") {
    return refusedf(
        "QEMU of {0} is gone from this host. If the source still waits, `vmhop resolve {0} "
        "--run-here` there continues the VM, if it is certain that it never ran here; `vmhop drop "
        "{0}` removes the records here",
        name);
  }
  return refusedf(
      "QEMU of {0} is gone, there is nothing to recover. `vmhop drop {0}` removes the "
      "records",
      name);
}

}  // namespace

Result<int> recover_vm(const RecoverOptions& options) {
  TerminalGuard terminal;
  VMHOP_ASSIGN(std::string base, runtime_base());
  VMHOP_ASSIGN(NameClaim claim, NameClaim::inherit(base, options.name));
  auto record = read_vm_record(claim.paths().directory());
  if (!record) {
    return errorf("{}/vm.json cannot be read: end what is left by its process ids",
                  claim.paths().directory());
  }
  if (!is_alive(record->qemu)) return nothing_to_adopt(options.name, *record, claim.paths());
  VMHOP_ASSIGN(auto supervisor, Supervisor::inherit(options.name, std::move(claim), *record));
  VMHOP_TRY(supervisor->recover(options));
  return supervisor->serve();
}

Result<std::unique_ptr<Supervisor>> Supervisor::inherit(const std::string& name, NameClaim claim,
                                                        const VmRecord& record) {
  VmRole role = record.role == "run" ? VmRole::kRun : VmRole::kReceive;
  std::optional<QemuCommand> command;
  if (!record.argv.empty()) {
    VMHOP_ASSIGN(command, QemuCommand::translate(record.argv, role,
                                                 record.front == front_name(Front::kObject)
                                                     ? Front::kObject
                                                     : Front::kPreload));
  }
  VMHOP_ASSIGN(auto self, assemble(std::move(claim), std::move(command), name, role));
  ProcessIdentity supervisor = self->record_.supervisor;
  self->record_ = record;
  self->record_.supervisor = supervisor;
  self->keeps_directory_ = true;  // until the VM is this supervisor's
  return self;
}

Status Supervisor::recover(const RecoverOptions& options) {
  VMHOP_ASSIGN(std::shared_ptr<ChildProcess> qemu, ChildProcess::adopt(record_.qemu.pid));
  if (qemu->identity() != record_.qemu) return Error("QEMU is gone", ErrorKind::kClosed);
  VMHOP_ASSIGN(auto vm, VmProcess::recover(qemu, command_ ? &*command_ : nullptr, record_.regions));
  VMHOP_ASSIGN(bool arrived, has_arrived(*vm));
  if (arrived) note_arrival();
  return record_.role == "run" ? recover_source(std::move(vm), options)
                               : recover_destination(vm, options);
}

// Its supervisor died between the last word of the switch and the record that the VM is here.
// QEMU's own word tells it from one that waits for its VM where another one's page map was left;
// without that word nothing is decided, since what has not arrived is killed.
Result<bool> Supervisor::has_arrived(VmProcess& vm) const {
  if (record_.role == "run") return false;
  const VmPaths& paths = claim_.paths();
  auto switched = read_switch_record(paths.directory());
  if (!switched || *switched) return false;
  auto map = open_page_map(paths, record_);
  if (!map || map->destination_state() != DestinationState::kDrained) return false;
  VMHOP_ASSIGN(QmpClient qmp,
               QmpClient::connect(paths.relocation_qmp(), QmpClient::Clock::now() + kMonitorTimeout,
                                  [&vm] { return vm.check_alive(); }));
  VMHOP_ASSIGN(nlohmann::json status, qmp.execute("query-status"));
  return text_of(status, "status") != "inmigrate";
}

// The source ----------------------------------------------------------------------------------

// Whether the exporter of the dead supervisor has committed, and whose the VM is. When this returns
// it decides nothing any more.
Result<std::optional<CommitRecord>> Supervisor::settle_former_exporter() {
  const VmPaths& paths = claim_.paths();
  auto deadline = std::chrono::steady_clock::now() + kExporterNotices;
  while (is_alive(record_.exporter)) {
    VMHOP_ASSIGN(auto record, read_commit_record(paths.directory()));
    bool pending = record && record->outcome == CommitOutcome::kPending;
    // It takes its socket away when it has given up, and may stay to tell the destination so.
    if (!pending && !connect_unix(paths.exporter_socket(), SOCK_SEQPACKET)) return record;
    if (pending || std::chrono::steady_clock::now() >= deadline) {
      end_helper(record_.exporter);
      break;
    }
    std::this_thread::sleep_for(kLookForItsEnd);
  }
  return read_commit_record(paths.directory());
}

Status Supervisor::recover_source(std::shared_ptr<VmProcess> vm, const RecoverOptions& options) {
  const std::string& directory = claim_.paths().directory();
  VMHOP_ASSIGN(auto commit, settle_former_exporter());
  VMHOP_ASSIGN(auto switched, read_switch_record(directory));
  record_.exporter = {};
  adopt(std::move(vm));
  if (commit && commit->outcome == CommitOutcome::kReleased) {
    spdlog::info("{} is at {}, which needs nothing from here any more; what was left is removed",
                 name_, commit->destination);
    vm_->child().kill_and_reap();
    keeps_directory_ = false;
    finish(kExitDone);
    return ok_status();
  }
  if (commit && commit->outcome == CommitOutcome::kPending) {
    if (!switched) return errorf("{} has no record of its switch", directory);
    return go_on_relocating(*commit, *switched, choose_credentials(options, switched->credentials));
  }
  // It is here: not given away, or handed back.
  VMHOP_TRY(remove_commit_record(directory));
  vm_->child().signal(SIGCONT);
  if (switched) VMHOP_TRY(undo_switch(*switched));
  VMHOP_TRY(watch_vm());
  keeps_directory_ = false;
  record_.peer.clear();
  write_record();
  spdlog::info("{} runs here, supervised again", name_);
  return ok_status();
}

Status Supervisor::undo_switch(const SwitchRecord& switched) {
  VMHOP_ASSIGN(QmpClient qmp, QmpClient::connect(claim_.paths().relocation_qmp(),
                                                 QmpClient::Clock::now() + kMonitorTimeout,
                                                 [this] { return vm_->check_alive(); }));
  VMHOP_TRY(resume_at_source(qmp, switched.was_running ? ResumeVm::kYes : ResumeVm::kLeavePaused,
                             kRollBack));
  MigrationSetup setup = MigrationSetup::from_found(switched.found_in_qemu);
  if (auto restored = setup.restore(qmp); !restored) {
    spdlog::warn("{}: {}", name_, restored.error().message());
  }
  vm_->allow_discards(&qmp);
  remove_switch_record(claim_.paths().directory());
  return ok_status();
}

Status Supervisor::go_on_relocating(const CommitRecord& commit, const SwitchRecord& switched,
                                    const CredentialsChoice& choice) {
  VMHOP_ASSIGN(Credentials credentials, needed_credentials(choice, SessionRole::kSource));
  RelocationRequest request;
  auto destination = parse_host_port(commit.destination);
  if (destination) {
    request.host = destination->host;
    request.port = destination->port;
  }
  VMHOP_ASSIGN(request.key, pass_credentials(credentials));
  request.credentials = absolute(choice);
  request.plain_data = switched.plain_data;
  request.transport = switched.transport;
  record_.peer = commit.destination;
  keeps_directory_ = false;
  spdlog::info("{}: going on to serve its memory to {}", name_, commit.destination);
  course_.go_on(CourseSide::kSource, record_.peer, view_.to_json());
  run_relocation(std::move(request),
                 [switched](Relocation& relocation) { return relocation.go_on(switched); });
  view_.set_state("leaving");
  return ok_status();
}

// The destination -----------------------------------------------------------------------------

Status Supervisor::recover_destination(const std::shared_ptr<VmProcess>& vm,
                                       const RecoverOptions& options) {
  CredentialsChoice choice = choose_credentials(options, record_.credentials);
  VMHOP_ASSIGN(Credentials credentials, needed_credentials(choice, SessionRole::kDestination));
  VMHOP_ASSIGN(HostPort address, parse_host_port(record_.listen));
  end_helper(record_.pager);
  record_.pager = {};
  VMHOP_ASSIGN(UniqueFd listening, listen_tcp(address));
  record_.credentials = absolute(choice);
  prepare_receiving(std::move(credentials), std::move(listening), record_.transport);
  auto found = destination_->find_vm(vm, record_);
  bool arriving = found && found->state >= DestinationState::kLoaded &&
                  found->state <= DestinationState::kDrained;
  bool aborted = found && found->state == DestinationState::kAborted;
  if (!arriving && !aborted && found && found->state > DestinationState::kDrained) {
    return refusedf(
        "nothing to recover: {0} has ended here, or was handed back. `vmhop drop {0}` "
        "ends what is left",
        name_);
  }
  // Without a record QEMU was never asked to load anything; one that cannot be read says nothing.
  if (!arriving && !found) {
    VMHOP_ASSIGN(auto switched, read_switch_record(claim_.paths().directory()));
    if (switched) return found.error();
  }
  if (!arriving) {
    spdlog::info("{} {}: waiting for it anew", name_,
                 aborted ? "is the source's, which has said so" : "had not arrived");
    // Of one that the source has, nothing may run here, whoever has started it.
    if (owns_qemu() || aborted) vm->child().kill_and_reap();
    keeps_directory_ = false;
    remove_switch_record(claim_.paths().directory());
    start_reception();
    return ok_status();
  }
  vm_ = nullptr;
  note_vm(record_.qemu, record_.regions);
  keeps_directory_ = false;
  spdlog::info("{}: going on to bring its memory here", name_);
  course_.go_on(CourseSide::kDestination, record_.peer, view_.to_json());
  auto held = std::make_shared<FoundVm>(std::move(*found));
  run_reception([held](Reception& reception) { return reception.go_on(std::move(*held)); });
  return ok_status();
}

}  // namespace vmhop

// The process behind `vmhop run` and `vmhop receive`: starts QEMU, answers on the control socket,
// and has its VM relocated or received. Its main thread runs an event loop and owns everything
// here; a relocation or reception runs in one worker thread beside it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backend/base/event_loop.h"
#include "backend/base/result.h"
#include "backend/session/tcp.h"
#include "cli/control_server.h"
#include "cli/course_recorder.h"
#include "cli/credentials_choice.h"
#include "cli/destination_side.h"
#include "cli/mailbox.h"
#include "cli/qemu_command.h"
#include "cli/runtime_dir.h"
#include "cli/signals.h"
#include "cli/source_side.h"
#include "cli/vm_process.h"
#include "cli/vm_view.h"

namespace vmhop {

class ReceiverLease;

struct RunOptions {
  std::string name;
  std::vector<std::string> qemu;
  std::string front = "auto";  // auto, object, preload
};

struct ReceiveOptions {
  std::string name;
  std::vector<std::string> qemu;
  std::string listen;  // [HOST]:PORT
  CredentialsChoice credentials;
  TransportPolicy transport;
  bool once = false;  // give up after the first attempt that fails
  std::string front = "auto";
};

// By ssh, for a `vmhop relocate` elsewhere.
struct SshReceiveOptions {
  TransportPolicy transport;  // this host's own
};

// For a QEMU that somebody else starts.
struct PagerOptions {
  std::string name;
  std::string listen;
  CredentialsChoice credentials;
  TransportPolicy transport;
  bool once = false;
};

struct RecoverOptions {
  std::string name;
  CredentialsChoice credentials;          // empty: as the VM's former supervisor had them
  CredentialsChoice default_credentials;  // if it had none
};

// Return vmhop's exit code. An error is one of vmhop's own, from before QEMU was up.
Result<int> run_vm(const RunOptions& options);
Result<int> receive_vm(const ReceiveOptions& options);
// The same on behalf of somebody, until the VM runs here: by their key, and with their lease, which
// must outlive the call.
Result<int> receive_leased(const ReceiveOptions& options, const Secret& key, ReceiverLease& lease);
Result<int> serve_pager(const PagerOptions& options);
// In place of a supervisor that died.
Result<int> recover_vm(const RecoverOptions& options);

class Supervisor {
 public:
  // Takes the name and opens the control socket. Without a QEMU command the VM is one that somebody
  // else starts.
  static Result<std::unique_ptr<Supervisor>> create(const std::string& name,
                                                    std::optional<QemuCommand> command,
                                                    const std::vector<std::string>& qemu,
                                                    VmRole role);
  // Takes over the name and the records of a supervisor that died; recover() does the rest.
  static Result<std::unique_ptr<Supervisor>> inherit(const std::string& name, NameClaim claim,
                                                     const VmRecord& record);
  ~Supervisor();

  Status start_vm();
  Status recover(const RecoverOptions& options);
  // `choice` is for the records: where a successor finds the credentials.
  Status start_receiving(Credentials credentials, const CredentialsChoice& choice,
                         UniqueFd listening, const std::string& address,
                         const TransportPolicy& transport, bool once);
  const std::string& directory() const { return claim_.paths().directory(); }
  // Before start_receiving(). From here on the log is a file in the VM's directory.
  Status hold_lease(ReceiverLease& lease);
  // Serves until the VM has ended or left; returns the exit code.
  Result<int> serve();

 private:
  using ClientId = ControlServer::ClientId;
  struct Waiting {
    ClientId client;
    RelocationRequest request;
    bool one_time_key = false;
  };

  Supervisor(NameClaim claim, std::optional<QemuCommand> command, EndSignals signals,
             std::unique_ptr<EventLoop> loop, const std::string& name, VmRole role);
  static Result<std::unique_ptr<Supervisor>> assemble(NameClaim claim,
                                                      std::optional<QemuCommand> command,
                                                      const std::string& name, VmRole role);

  // What a dead supervisor left.
  Result<std::optional<CommitRecord>> settle_former_exporter();
  Result<bool> has_arrived(VmProcess& vm) const;
  Status recover_source(std::shared_ptr<VmProcess> vm, const RecoverOptions& options);
  Status undo_switch(const SwitchRecord& switched);
  Status go_on_relocating(const CommitRecord& commit, const SwitchRecord& switched,
                          const CredentialsChoice& choice);
  Status recover_destination(const std::shared_ptr<VmProcess>& vm, const RecoverOptions& options);

  // The VM.
  void adopt(std::shared_ptr<VmProcess> vm);
  Status watch_vm();
  void on_lifecycle_input();
  void on_qemu_exit();
  void note_vm(const ProcessIdentity& qemu, std::vector<RegionRecord> regions);
  bool owns_qemu() const { return command_.has_value(); }
  void tell_how_to_start_qemu() const;
  void write_record();

  // Requests.
  void on_request(ClientId client, ControlMessage message);
  void on_relocate(ClientId client, ControlMessage message);
  void on_go(ClientId client);
  void on_client_gone(ClientId client);
  void on_abort(ClientId client, const std::string& reason);
  void on_drop(ClientId client);
  void on_resolve(ClientId client, const nlohmann::json& request);
  // An operator who decided, or who asked to drop it, hears what came of it.
  enum class Whose { kThisHosts, kTheOthers, kNobodys };
  static Whose whose_after(RelocationEnd end);
  static Whose whose_after(ReceptionEnd end);
  void answer_operators(Whose vm);
  void refuse(ClientId client, const std::string& message);

  // The worker.
  SideNews side_news(ProcessIdentity VmRecord::*helper);
  void reap_when_gone(const std::shared_ptr<ChildProcess>& child);
  void on_event(const nlohmann::json& event);
  void start_relocation(Waiting waiting);
  void run_relocation(RelocationRequest request,
                      std::function<RelocationOutcome(Relocation&)> course);
  void on_relocated(const RelocationOutcome& outcome);
  void prepare_receiving(Credentials credentials, UniqueFd listening,
                         const TransportPolicy& transport);
  void start_reception();
  void run_reception(std::function<ReceptionOutcome(Reception&)> course);
  void on_received(const ReceptionOutcome& outcome);
  void note_arrival();
  void on_vm_arrived();
  void join_worker();

  // By ssh.
  void renew_lease();
  void let_lease_go();
  void lose_lease(const std::string& why);
  void tell_lease_holder(const nlohmann::json& event);
  Status keep_one_time_key(RelocationRequest& request);
  void forget_one_time_key();

  // The end.
  void on_signal();
  void quit_qemu();
  void finish(int exit_code);
  void leave();

  NameClaim claim_;
  std::optional<QemuCommand> command_;
  EndSignals signals_;
  std::unique_ptr<EventLoop> loop_;
  std::string name_;
  VmView view_;
  VmRecord record_;
  CourseRecorder course_;
  std::unique_ptr<ControlServer> server_;

  std::shared_ptr<VmProcess> vm_;
  std::optional<QmpClient> lifecycle_;
  std::optional<ExitStatus> qemu_exit_;

  std::thread worker_;
  bool working_ = false;
  std::unique_ptr<Mailbox> mailbox_;
  std::unique_ptr<SourceSide> source_;
  std::unique_ptr<DestinationSide> destination_;
  std::optional<std::string> relocating_to_;  // HOST:PORT
  ClientId relocating_for_ = 0;
  bool held_ = false;  // it waits for that client's word
  std::optional<ClientId> dropping_for_;
  std::optional<ClientId> resolving_for_;
  Whose resolving_to_ = Whose::kNobodys;
  std::optional<Waiting> waiting_;  // for the VM to be drained here

  ReceiverLease* lease_ = nullptr;  // of a receiver that was started by ssh
  EventLoop::TimerId lease_timer_ = 0;

  bool once_ = false;
  bool terminating_ = false;
  bool shutdown_seen_ = false;
  bool keeps_directory_ = false;
  bool exporter_has_finished_ = false;  // it said so; it still has to write that down
  std::chrono::steady_clock::time_point attempt_started_;
  std::optional<int> exit_code_;
};

}  // namespace vmhop

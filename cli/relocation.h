// Relocates a running VM away from here: drives QEMU (by QMP) and the exporter (by its channel)
// through one relocation, from the first check to drained. Runs in a thread of its own, which owns
// both connections; docs/protocol-local.md tells the exporter's side of the story.
//
// Never two, never none. The exporter cannot commit before it was told "source_completed", which
// is said only once QEMU is in postmigrate, where it never resumes by itself. And the VM is resumed
// here only when nothing can commit any more: the exporter said so ("aborted", "failed"), or it is
// reaped and has left no commit record.
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "backend/commit_record.h"
#include "backend/session/credentials.h"
#include "backend/transport_choice.h"
#include "cli/helper_process.h"
#include "cli/mailbox.h"
#include "cli/migration_setup.h"
#include "cli/qmp_client.h"
#include "cli/source_checks.h"
#include "cli/switch_record.h"
#include "cli/vm_record.h"

namespace vmhop {

struct RelocationRequest {
  std::string host;
  uint16_t port = 0;
  UniqueFd key;                   // as key_passing.h makes it
  CredentialsChoice credentials;  // where it came from, for whoever has to go on
  bool plain_data = false;
  TransportPolicy transport;
  // Until the destination is ready; unless given, what preparing this much memory may take.
  std::optional<std::chrono::milliseconds> prepare_timeout;
  std::chrono::milliseconds switch_timeout{10'000};  // from STOP to the commit
  bool hold = false;                                 // once prepared, until Request::kGo
};

// 30 s, and a second for each GiB of RAM: finding extents takes 0.1 s per GiB (measured), and both
// ends pin it for RDMA, the destination after the kernel has cleared it.
std::chrono::milliseconds default_prepare_timeout(const std::vector<RegionRecord>& regions);

struct RelocationLimits {
  std::chrono::milliseconds settle{10'000};     // for the exporter to answer an abort
  std::chrono::milliseconds grace{2'000};       // for the exporter to exit once it is over
  std::chrono::milliseconds roll_back{15'000};  // for QEMU to run again
  std::chrono::milliseconds leave{5'000};       // to hear that the VM runs, before leaving it alone
  std::chrono::milliseconds restart_pause{1'000};  // before an exporter that died young is replaced
  unsigned restarts = 5;                           // of exporters that die young, one after another
};

// What a relocation needs of the VM's supervisor. Called from the relocation's thread.
class RelocationHost {
 public:
  RelocationHost() = default;
  RelocationHost(const RelocationHost&) = delete;
  RelocationHost& operator=(const RelocationHost&) = delete;
  virtual ~RelocationHost() = default;

  virtual std::string vm_name() const = 0;
  virtual std::string runtime_directory() const = 0;
  virtual std::vector<RegionRecord> regions() const = 0;
  virtual std::vector<int> memory_fds() const = 0;  // in the order of regions()

  virtual Result<QmpClient> connect_qmp() = 0;
  virtual Result<Helper> start_exporter() = 0;

  virtual Status block_discards(QmpClient& qmp) = 0;
  virtual void allow_discards(QmpClient* qmp) = 0;  // null: it is lost
  // Discards done so far; see front_control.h.
  virtual uint64_t discards() const = 0;

  virtual void freeze_qemu() = 0;  // SIGSTOP
  virtual void thaw_qemu() = 0;
  virtual void end_qemu() = 0;  // SIGKILL, and reaped
  virtual bool qemu_has_exited() = 0;

  virtual bool commit_recorded() const = 0;
  // Nothing when there is no record; an unreadable one is an error.
  virtual Result<std::optional<CommitRecord>> commit_record() const = 0;
  virtual Status forget_commit() = 0;

  // News for whoever watches: JSON with "event", see docs/protocol-local.md.
  virtual void report(const nlohmann::json& event) = 0;
};

enum class RelocationEnd {
  kStaysHere,   // not committed (or handed back): the VM is this host's, and as it was
  kVmGone,      // not committed, but its QEMU ended by itself meanwhile
  kDrained,     // the VM is the destination's, whole
  kEndedThere,  // committed; it ended at the destination before it was drained
  kDropped,     // committed; an operator gave the memory up
  kLeft,        // committed; the exporter goes on without this supervisor
};

struct RelocationOutcome {
  RelocationEnd end;
  ErrorKind kind = ErrorKind::kFailed;  // of kStaysHere
  std::string message;
  nlohmann::json report;  // the exporter's, of kDrained
};

class Relocation {
 public:
  Relocation(RelocationHost& host, Mailbox& mailbox, RelocationRequest request,
             RelocationLimits limits = {})
      : host_(host), mailbox_(mailbox), request_(std::move(request)), limits_(limits) {}

  // Blocks until the relocation has ended either way.
  RelocationOutcome run();
  // The same for one that a supervisor which died had committed: its exporter is gone (reaped), and
  // its QEMU still has the memory.
  RelocationOutcome go_on(const SwitchRecord& record);

 private:
  using Clock = std::chrono::steady_clock;

  // The way to the commit, in order; any error ends it before the commit.
  Status prepare();
  Status hold();
  Status start_exporter(const std::optional<CommitRecord>& committed);
  Status stop_vm();
  Status hand_over();

  // After an error: whether the exporter committed nevertheless.
  bool settle_whether_committed(const Error& cause);
  RelocationOutcome roll_back(Error cause);
  Status resume_vm();
  // After the commit.
  RelocationOutcome follow();
  RelocationOutcome take_back();
  std::optional<RelocationOutcome> react_after_commit();
  RelocationOutcome finish(RelocationEnd end, std::string message);
  std::optional<RelocationOutcome> replace_exporter();
  void leave_unresolved(const std::string& cause);
  // An operator's decisions while only this side is to be reached.
  void run_here();
  void refuse_to_run_here();
  void refuse_decision(const std::string& why);
  void keep_given_away();

  // Reads what QEMU, the exporter and the mailbox have, waiting until `deadline` for any of it.
  Status pump(Clock::time_point deadline);
  Status wait_until(const std::function<bool()>& reached, Clock::time_point deadline,
                    const char* waiting_for);
  // What makes going on towards the commit impossible.
  Status trouble() const;
  void read_exporter();
  void read_qmp();
  void read_mailbox();
  void on_exporter(const nlohmann::json& message);
  void on_qmp(const QmpEvent& event);

  RelocationHost& host_;
  Mailbox& mailbox_;
  RelocationRequest request_;
  RelocationLimits limits_;

  std::optional<QmpClient> qmp_;
  std::optional<Helper> exporter_;
  Clock::time_point exporter_started_;
  std::optional<Credentials> credentials_;
  unsigned young_deaths_ = 0;
  SourceFacts facts_;
  MigrationSetup setup_;
  bool discards_blocked_ = false;
  uint64_t discards_before_ = 0;
  bool migrate_started_ = false;
  bool qemu_frozen_ = false;

  // What was seen so far.
  std::string migration_;     // the status in QEMU's latest MIGRATION event
  bool was_running_ = false;  // when the migration began
  int64_t stopped_ns_ = 0;    // STOP's timestamp
  bool qmp_lost_ = false;
  bool prepared_ = false;
  bool committed_ = false;
  bool exporter_aborted_ = false;
  bool exporter_closed_ = false;
  bool unresolved_ = false;  // the exporter is gone and cannot be replaced
  std::optional<Error> exporter_failed_;
  bool running_there_ = false;
  bool dropped_ = false;
  std::optional<std::string> returned_;
  bool revoked_ = false;  // an operator has it run here: the exporter is to record and tell it
  std::optional<std::string> ended_;
  std::optional<nlohmann::json> drained_;
  std::optional<Error> abort_requested_;
  std::optional<Clock::time_point> leave_by_;
};

}  // namespace vmhop

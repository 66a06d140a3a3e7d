// Receives one VM: drives a waiting QEMU (by QMP) and the pager (by its channel) from "waiting" to
// drained. Runs in a thread of its own, which owns both connections; docs/protocol-local.md tells
// the pager's side of the story.
//
// Never two, never none. The VM is continued here only upon the pager's "commit". Once its device
// state is loaded, the source may have committed: from then on this side never decides by itself,
// and gives the VM up only after killing a QEMU that never ran it ("returned").
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "backend/session/messages.h"
#include "backend/transport_choice.h"
#include "cli/child_process.h"
#include "cli/helper_process.h"
#include "cli/mailbox.h"
#include "cli/migration_setup.h"
#include "cli/qmp_client.h"
#include "cli/switch_record.h"

namespace vmhop {

// A QEMU started with -incoming defer -S whose regions are registered with userfaultfd.
struct WaitingVm {
  struct Region {
    std::string id;
    uint64_t size;
    uint32_t page_size;
    uint64_t address;  // in QEMU
    int memfd;
    int userfaultfd;
  };
  QmpClient qmp;
  std::string machine;
  std::vector<Region> regions;
  int exit_fd = -1;  // readable once QEMU has exited
};

// One whose supervisor died after its device state was loaded.
struct FoundVm {
  SwitchRecord record;
  std::vector<WaitingVm::Region> regions;
  int exit_fd = -1;
  UniqueFd page_map;
  DestinationState state = DestinationState::kLoaded;  // these two: in the page map
  bool was_running = true;
};

// What a reception needs of the VM's supervisor. Called from the reception's thread.
class ReceptionHost {
 public:
  ReceptionHost() = default;
  ReceptionHost(const ReceptionHost&) = delete;
  ReceptionHost& operator=(const ReceptionHost&) = delete;
  virtual ~ReceptionHost() = default;

  virtual std::string vm_name() const = 0;
  virtual std::string runtime_directory() const = 0;
  virtual Result<UniqueFd> key() const = 0;  // as key_passing.h makes it
  virtual int listening_socket() const = 0;
  virtual TransportPolicy transport() const = 0;

  // A fresh QEMU on fresh memory. It may have to wait for one that somebody else starts, until
  // `give_up` says true.
  virtual Result<WaitingVm> start_vm(const std::function<bool()>& give_up) = 0;
  // Whether it started that QEMU itself, and may end it when it is of no use.
  virtual bool owns_qemu() const { return true; }
  virtual Result<Helper> start_pager() = 0;
  // The monitor of a VM that was found. May fail for as long as its main thread waits for a page.
  virtual Result<QmpClient> connect_qmp(std::chrono::milliseconds timeout) = 0;

  // Every page is here: QEMU's front may let go of userfaultfd, and RAM be discarded.
  virtual void let_front_go() = 0;
  virtual std::optional<ExitStatus> qemu_exit() = 0;  // nothing while it runs
  virtual void end_qemu() = 0;                        // SIGKILL, and reaped

  // News for whoever watches: JSON with "event", see docs/protocol-local.md.
  virtual void report(const nlohmann::json& event) = 0;
};

struct ReceptionLimits {
  std::chrono::milliseconds grace{2'000};          // for the pager to exit once it is over
  std::chrono::milliseconds settle{10'000};        // for the pager to tell the source
  std::chrono::milliseconds quit{10'000};          // for QEMU to quit when asked
  std::chrono::milliseconds restart_pause{1'000};  // between two deaths of the pager
  std::chrono::milliseconds monitor{1'000};        // for the monitor of a VM that was found
};

enum class ReceptionEnd {
  kAborted,     // nothing was committed here; a source may try again
  kDrained,     // the VM is this host's, whole
  kVmEnded,     // committed; its QEMU ended here before it was drained
  kTerminated,  // asked to end before anything was committed here
  kFailed,      // the destination cannot be prepared
  kLeft,        // asked to end before a VM that was found could be spoken to: it is as it was
};

struct ReceptionOutcome {
  ReceptionEnd end;
  std::string message;
  ExitStatus exit;     // of kVmEnded
  bool whole = false;  // ... just when all of it was here: its pager only has to tell the source
};

class Reception {
 public:
  Reception(ReceptionHost& host, Mailbox& mailbox, ReceptionLimits limits = {})
      : host_(host), mailbox_(mailbox), limits_(limits) {}

  // Blocks until this attempt has ended either way.
  ReceptionOutcome run();
  // The same for a VM whose supervisor died: its former pager is gone (reaped).
  ReceptionOutcome go_on(FoundVm found);

 private:
  using Clock = std::chrono::steady_clock;

  enum class Stage {
    kWaiting,    // no device state asked for yet
    kLoading,    // QEMU reads device state
    kLoaded,     // in doubt until the pager says commit or aborted
    kResuming,   // commit came; cont was sent
    kRunning,    // the VM runs (or is paused, as it was), pages are missing
    kGivenBack,  // QEMU is gone and never ran; the pager tells the source
    kEnded,      // QEMU ended here; the pager tells the source
  };

  ReceptionOutcome serve();
  Status start_pager();
  bool wait_for_monitor(int exit_fd);
  void hear_pager_meanwhile();
  void learn_whether_it_runs(const FoundVm& found);
  void remember(bool arrived);
  void hear_pagers_last_words();
  Status pump(Clock::time_point deadline);
  std::optional<ReceptionOutcome> react();
  std::optional<ReceptionOutcome> react_when_over();
  std::optional<ReceptionOutcome> react_to_impatience();
  std::optional<ReceptionOutcome> react_to_pager_gone();

  // The pager's messages.
  void on_pager(const nlohmann::json& message, std::vector<UniqueFd> fds);
  void prepare_for_device_state();
  void on_wrong_page(const nlohmann::json& message);
  void on_commit(bool was_running);
  // QEMU's side.
  void read_qmp();
  void on_qmp(const QmpEvent& event);
  void ran_too_early();
  void on_cont_answer(const Result<nlohmann::json>& answer);
  void check_that_it_runs();
  void now_running(int64_t resumed_ns);
  void on_qemu_exit(const ExitStatus& status);
  // The supervisor's.
  void read_mailbox();
  void terminate(const std::string& reason);
  void run_here();
  void give_back(const std::string& reason);
  void forget_source();
  void tell_pager(const nlohmann::json& message);
  void remind_pager();
  ReceptionOutcome finish(ReceptionEnd end, std::string message);

  ReceptionHost& host_;
  Mailbox& mailbox_;
  ReceptionLimits limits_;

  std::optional<WaitingVm> vm_;  // empty only while a VM that was found does not answer
  // What a pager is started with.
  std::string machine_;
  std::string qemu_version_;
  std::vector<WaitingVm::Region> regions_;
  std::optional<Helper> pager_;
  UniqueFd page_map_;
  MigrationSetup setup_;

  Stage stage_ = Stage::kWaiting;
  bool pager_closed_ = false;
  bool pager_heard_out_ = false;
  bool pager_done_ = false;  // it said so: the source knows how it ended
  bool source_connected_ = false;
  bool stopped_there_ = false;  // the VM at the source: the switch has begun
  bool qmp_lost_ = false;
  bool was_running_ = true;
  bool terminating_ = false;
  bool asked_to_end_ = false;
  bool quit_sent_ = false;
  std::optional<uint64_t> cont_id_;
  bool stopped_for_wrong_page_ = false;
  std::optional<ExitStatus> exit_;
  std::optional<std::string> aborted_;
  bool decided_to_run_ = false;  // by an operator
  bool drained_ = false;
  std::optional<bool> commit_waits_;  // for a monitor; whether the VM ran
  std::string shutdown_reason_;
  std::string end_message_;
  nlohmann::json last_words_;  // what the pager must tell the source, said again if it restarts
  std::optional<Clock::time_point> give_up_at_;
  Clock::time_point pager_started_;
};

}  // namespace vmhop

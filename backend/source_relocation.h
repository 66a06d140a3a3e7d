// One relocation as the source sees it: session, device state, commit, and what follows.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "backend/base/event_loop.h"
#include "backend/base/worker.h"
#include "backend/checksum_announcer.h"
#include "backend/commit_record.h"
#include "backend/exporter.h"
#include "backend/session/credentials.h"
#include "backend/source_session.h"
#include "backend/state_relay.h"
#include "backend/transport_choice.h"

namespace vmhop {

// Where the source is with it. Before kCommitted the VM is the source's, from then on the
// destination's; kReturned gives it back.
enum class SourceState {
  kConnecting,  // to the destination, for the first time
  kPreparing,   // the destination gets ready
  kPrepared,    // device state may be sent; the VM runs
  kReadPoint,   // the VM is stopped
  kCommitted,   // recorded, then sent
  kReturned,    // the destination never ran it: the VM is the source's again
  kAborted,
  kReleased,  // drained or ended: nobody needs the memory any more
};
const char* source_state_name(SourceState state);

// Belongs to the loop's thread.
class SourceRelocation {
 public:
  struct Options {
    Hello hello;  // all but the lane generation
    HostPort destination;
    std::string runtime_dir;
    TransportPolicy transport;
    OneSidedTransport::ExportOptions memory;
    OneSidedTransport* one_sided = nullptr;  // null: this program has none
    // For an exporter that goes on where another one died, or lost its supervisor: the decision is
    // made, the VM is the destination's. hello.relocation is the record's.
    std::optional<CommitRecord> committed;
  };
  // `tell` gets the events for the supervisor, as in docs/protocol-local.md.
  using Tell = std::function<void(const nlohmann::json&)>;

  static Result<std::unique_ptr<SourceRelocation>> start(EventLoop& loop, Options options,
                                                         Credentials credentials,
                                                         std::vector<RamRegion> regions, Tell tell);
  ~SourceRelocation();

  // QEMU is at pre-switchover: memory and disks stand still.
  void read_point(RunState before_stop, uint64_t stopped_realtime_ns);
  // QEMU is in postmigrate: it has sent everything, and its return path is closed.
  void source_completed();
  // Before the commit: give up. Afterwards it does nothing: the decision stands.
  void abort(const std::string& reason);
  // An operator's order: the memory goes, drained or not.
  void drop();
  // An operator's order: the VM runs here again. The destination is told so as soon as it can be.
  // Void once the destination has said that it runs there.
  void revoke();

  SourceState state() const { return state_; }
  nlohmann::json status() const;

 private:
  using Clock = EventLoop::Clock;
  SourceRelocation(EventLoop& loop, Options options, Credentials credentials,
                   std::vector<RamRegion> regions, Tell tell);

  Status open_memory();
  void dial();
  void on_dial_failed(const Error& error);
  void on_link(SourceLink link);
  void begin(const SourceLink& link);
  void go_on();
  void serve_lanes(SourceLink& link);
  void lose_lane(uint64_t generation, const Error& error);
  void on_link_lost(const Error& error);
  void pace_device_state();

  void on_message(const Message& message);
  void on_prepared();
  void on_running(const Running& running);
  void on_returned(const Returned& returned);
  void on_progress(const Progress& progress);
  void on_drained(const Drained& drained);
  void on_ended(const Ended& ended);
  void on_released();

  void accept_qemu();
  void relay_to_destination(std::span<const std::byte> bytes);
  void send_layout(const SourceLayout& layout, LayoutKind kind);
  void send_keys(const std::vector<MemoryKeys>& all);
  void scan_after_stop();
  void announce_checksums();
  Status record(CommitOutcome outcome) const;
  void decide_when_ready();
  void fail(const Error& error);
  void give_up();
  void tell_until_answered(Message last_word, std::chrono::milliseconds patience);
  void release();
  void let_memory_go();

  EventLoop& loop_;
  Options options_;
  Credentials credentials_;
  Tell tell_;
  Exporter exporter_;
  SourceState state_ = SourceState::kConnecting;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for work that others post
  std::string no_rdma_because_;  // of this side's; empty: RDMA is offered
  bool rdma_ = false;            // on the link that is up

  UniqueFd migrate_socket_;  // listening for the source QEMU
  std::unique_ptr<StateRelay> relay_;
  bool final_layout_ = false;

  RunState before_stop_ = RunState::kRunning;
  uint64_t stopped_realtime_ns_ = 0;
  uint64_t commit_sent_realtime_ns_ = 0;
  bool loaded_ = false;
  bool source_completed_ = false;
  bool running_there_ = false;
  std::optional<Message> last_word_;
  std::optional<uint64_t> blackout_ns_;  // unknown to an exporter that did not see the stop
  std::optional<Progress> progress_;

  uint64_t wrong_pages_told_ = 0;

  std::unique_ptr<SourceSession> session_;
  std::unique_ptr<ChecksumAnnouncer> checksums_;  // null: the destination does not verify
  std::unique_ptr<Worker> worker_;                // dials, scans and registers: what takes long
};

}  // namespace vmhop

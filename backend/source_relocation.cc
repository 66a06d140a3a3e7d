#include "backend/source_relocation.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "backend/base/realtime.h"
#include "backend/commit_record.h"
#include "backend/progress_json.h"

namespace vmhop {
namespace {

using std::chrono::milliseconds;

// How long a last word is worth delivering to a destination that may wait for it.
constexpr milliseconds kDelivery{600'000};
// ... and that the memory is free, to one that has all of it: a pager that is started again hears
// it, and one that comes later waits for nothing that the VM needs.
constexpr milliseconds kReleaseDelivery{10'000};

}  // namespace

const char* source_state_name(SourceState state) {
  switch (state) {
    case SourceState::kConnecting:
      return "connecting";
    case SourceState::kPreparing:
      return "preparing";
    case SourceState::kPrepared:
      return "prepared";
    case SourceState::kReadPoint:
      return "read-point";
    case SourceState::kCommitted:
      return "committed";
    case SourceState::kReturned:
      return "returned";
    case SourceState::kAborted:
      return "aborted";
    case SourceState::kReleased:
      return "released";
  }
  return "invalid";
}

SourceRelocation::SourceRelocation(EventLoop& loop, Options options, Credentials credentials,
                                   std::vector<RamRegion> regions, Tell tell)
    : loop_(loop),
      options_(std::move(options)),
      credentials_(std::move(credentials)),
      tell_(std::move(tell)),
      exporter_(std::move(regions)),
      worker_(std::make_unique<Worker>()) {
  SourceSession::Callbacks callbacks;
  callbacks.on_dial_failed = [this](const Error& error) { on_dial_failed(error); };
  callbacks.on_up = [this](SourceLink link) { on_link(std::move(link)); };
  callbacks.on_message = [this](const Message& message) { on_message(message); };
  callbacks.on_lost = [this](const Error& error) { on_link_lost(error); };
  callbacks.on_queue_changed = [this] { pace_device_state(); };
  callbacks.on_redial = [this] { dial(); };
  session_ = std::make_unique<SourceSession>(loop_, *worker_, std::move(callbacks));
  if (!options_.hello.verify) return;
  checksums_ = std::make_unique<ChecksumAnnouncer>(
      loop_, exporter_.regions(), [this](const Checksums& batch) { session_->send(batch); });
}

SourceRelocation::~SourceRelocation() {
  *alive_ = false;
  checksums_.reset();
  session_.reset();
  worker_.reset();
  if (migrate_socket_.valid()) loop_.remove(migrate_socket_.get());
}

Result<std::unique_ptr<SourceRelocation>> SourceRelocation::start(EventLoop& loop, Options options,
                                                                  Credentials credentials,
                                                                  std::vector<RamRegion> regions,
                                                                  Tell tell) {
  std::unique_ptr<SourceRelocation> self(new SourceRelocation(
      loop, std::move(options), std::move(credentials), std::move(regions), std::move(tell)));
  VMHOP_TRY(self->open_memory());
  if (self->options_.committed) {
    self->state_ = SourceState::kCommitted;
    self->before_stop_ = self->options_.committed->before_stop;
    self->dial();
    self->session_->start_pings();
    return self;
  }
  std::string path = self->options_.runtime_dir + "/migrate.sock";
  VMHOP_ASSIGN(self->migrate_socket_, listen_unix(path, SOCK_STREAM));
  loop.set(self->migrate_socket_.get(), POLLIN, [raw = self.get()](short) { raw->accept_qemu(); });
  self->dial();
  return self;
}

// What the destination says -------------------------------------------------------------------

void SourceRelocation::on_message(const Message& message) {
  if (std::holds_alternative<Prepared>(message)) return on_prepared();
  if (const auto* bytes = std::get_if<ReturnPath>(&message)) {
    if (relay_) relay_->write(bytes->bytes);
    return;
  }
  if (std::holds_alternative<Loaded>(message)) {
    loaded_ = true;
    return decide_when_ready();
  }
  if (const auto* running = std::get_if<Running>(&message)) return on_running(*running);
  if (const auto* returned = std::get_if<Returned>(&message)) return on_returned(*returned);
  if (const auto* progress = std::get_if<Progress>(&message)) return on_progress(*progress);
  if (const auto* drained = std::get_if<Drained>(&message)) return on_drained(*drained);
  if (const auto* ended = std::get_if<Ended>(&message)) return on_ended(*ended);
  if (std::holds_alternative<Released>(message)) return on_released();
  if (const auto* aborted = std::get_if<Abort>(&message)) {
    if (state_ == SourceState::kAborted) return loop_.stop();  // delivered, and confirmed
    if (state_ < SourceState::kCommitted) {
      fail(errorf("the destination gave up: {}", aborted->reason));
      return loop_.stop();  // it need not be told
    }
    spdlog::warn("the destination wants to abort after the commit: {}", aborted->reason);
    return;
  }
  session_->lose(
      errorf("the destination sent {}, which is the source's to send", message_name(message)));
}

void SourceRelocation::on_prepared() {
  if (state_ != SourceState::kPreparing) return;
  state_ = SourceState::kPrepared;
  tell_({{"event", "prepared"}});
  session_->measure_round_trip();
}

void SourceRelocation::on_running(const Running& running) {
  if (state_ != SourceState::kCommitted || running_there_) return;
  running_there_ = true;
  if (options_.committed) return tell_({{"event", "running"}});
  // From STOP to the commit by the source's clock, from its arrival to RESUME by the destination's,
  // and the way between as half of the shortest round trip seen: no two clocks are compared.
  auto way = session_->round_trip().count() / 2;
  blackout_ns_ = commit_sent_realtime_ns_ - stopped_realtime_ns_ + static_cast<uint64_t>(way) +
                 running.after_commit_ns;
  tell_({{"event", "running"}, {"blackout_ns", *blackout_ns_}});
}

void SourceRelocation::on_returned(const Returned& returned) {
  if (state_ < SourceState::kCommitted) {
    // It had loaded the VM and gave up before it heard of a decision, so there is none.
    return fail(errorf("the destination gave up: {}", returned.reason));
  }
  if (state_ != SourceState::kCommitted) return;
  if (Status written = record(CommitOutcome::kReturned); !written) {
    spdlog::error("{}", written.error().message());
    return;  // While the record is as it was, nobody may run the VM here.
  }
  state_ = SourceState::kReturned;
  exporter_.close_lanes();
  exporter_.close_memory();  // before anybody hears of it, as in give_up()
  tell_({{"event", "returned"}, {"message", returned.reason}});
  tell_until_answered(Released{}, kDelivery);
}

// Nobody there will ask any more.
void SourceRelocation::on_released() {
  if (state_ == SourceState::kReturned || state_ == SourceState::kReleased) return loop_.stop();
  session_->lose(Error("the destination let go of what was not released"));
}

void SourceRelocation::on_progress(const Progress& progress) {
  progress_ = progress;
  if (progress.pages_wrong > wrong_pages_told_) {
    wrong_pages_told_ = progress.pages_wrong;
    auto message = fmt::format(
        "{} pages came to the destination with other bytes than are here. Its `vmhop status {}` "
        "and "
        "log say what became of the VM; nothing here is let go",
        progress.pages_wrong, options_.hello.vm);
    spdlog::error("{}: {}", options_.hello.vm, message);
    tell_({{"event", "error"}, {"message", message}});
  }
  nlohmann::json event = progress_to_json(progress);
  event["event"] = "progress";
  event["elapsed_ns"] =
      commit_sent_realtime_ns_ == 0 ? 0 : realtime_ns() - commit_sent_realtime_ns_;
  tell_(event);
}

void SourceRelocation::on_drained(const Drained& drained) {
  if (state_ != SourceState::kCommitted) return;
  nlohmann::json report = progress_ ? progress_to_json(*progress_) : nlohmann::json::object();
  report["blackout_ns"] = blackout_ns_.value_or(0);
  report["drained_ns"] = drained.after_running_ns;
  report["bytes_sent"] = exporter_.counters().bytes_sent.load();
  report["zero_pages"] = exporter_.counters().zero_pages.load();
  report["transport"] = rdma_ ? "rdma" : "tcp";
  if (auto memory = exporter_.memory()) report["registered_bytes"] = memory->registered_bytes();
  tell_({{"event", "drained"}, {"report", report}});
  release();
  tell_until_answered(Released{}, kReleaseDelivery);
  let_memory_go();
}

void SourceRelocation::on_ended(const Ended& ended) {
  if (state_ != SourceState::kCommitted) return;
  tell_({{"event", "ended"}, {"reason", ended.reason}});
  release();
  tell_until_answered(Released{}, kDelivery);
  let_memory_go();
}

// The VM's own course -------------------------------------------------------------------------

void SourceRelocation::accept_qemu() {
  UniqueFd qemu(::accept4(migrate_socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!qemu.valid() || relay_) return;
  auto relay = StateRelay::start(loop_, std::move(qemu), [this](std::span<const std::byte> bytes) {
    relay_to_destination(bytes);
  });
  if (!relay) return fail(relay.error());
  relay_ = std::move(*relay);
}

void SourceRelocation::relay_to_destination(std::span<const std::byte> bytes) {
  session_->send(DeviceState{{bytes.begin(), bytes.end()}});
}

void SourceRelocation::read_point(RunState before_stop, uint64_t stopped_realtime_ns) {
  if (state_ != SourceState::kPrepared) return;
  state_ = SourceState::kReadPoint;
  before_stop_ = before_stop;
  stopped_realtime_ns_ = stopped_realtime_ns;
  session_->send(ReadPoint{before_stop});
}

void SourceRelocation::source_completed() {
  source_completed_ = true;
  decide_when_ready();
}

Status SourceRelocation::record(CommitOutcome outcome) const {
  return write_commit_record(
      options_.runtime_dir,
      {options_.hello.relocation, options_.destination.to_string(), before_stop_, outcome});
}

// The decision: both sides are complete, it is on disk, only then is it said.
void SourceRelocation::decide_when_ready() {
  if (state_ != SourceState::kReadPoint || !loaded_ || !source_completed_ || !session_->up())
    return;
  if (Status written = record(CommitOutcome::kPending); !written) {
    return fail(written.error().with("recording the commit"));
  }
  state_ = SourceState::kCommitted;
  commit_sent_realtime_ns_ = realtime_ns();
  session_->send(Commit{before_stop_});
  tell_({{"event", "committed"}});
  scan_after_stop();
}

// What appeared since the preliminary layout. It takes time that grows with RAM, so it starts when
// the VM is on its way; until it is there the destination asks for unknown pages by name.
void SourceRelocation::scan_after_stop() {
  struct Scanned {
    std::shared_ptr<const SourceLayout> layout;
    std::vector<MemoryKeys> added;
  };
  worker_->post(
      [this, &loop = loop_, alive = alive_, memory = rdma_ ? exporter_.memory() : nullptr] {
        auto layout = exporter_.scan();
        if (!layout) return spdlog::error("the memory's layout: {}", layout.error().message());
        auto scanned = std::make_shared<Scanned>();
        if (memory) {
          // What cannot be registered is still served by name.
          auto added = memory->register_memory(layout->extents);
          if (added) {
            scanned->added = std::move(*added);
          } else {
            spdlog::warn("what the VM has touched lately: {}", added.error().message());
          }
        }
        scanned->layout = std::make_shared<const SourceLayout>(std::move(*layout));
        loop.post([this, alive, scanned] {
          if (!*alive) return;
          exporter_.set_layout(scanned->layout);
          final_layout_ = true;
          send_keys(scanned->added);
          send_layout(*scanned->layout, LayoutKind::kFinal);
          announce_checksums();
        });
      });
}

// Of the final layout: what it lacks is no page.
void SourceRelocation::announce_checksums() {
  if (checksums_ && final_layout_ && session_->up()) checksums_->start(exporter_.layout());
}

void SourceRelocation::abort(const std::string& reason) {
  if (state_ >= SourceState::kCommitted) return;
  fail(Error(reason, ErrorKind::kAborted));
}

// Before the commit: nothing was decided, so the VM stays. A destination that has loaded its device
// state is in doubt until it hears so.
void SourceRelocation::fail(const Error& error) {
  if (state_ >= SourceState::kCommitted) return;
  // Where there is no link one that has loaded nothing gives up by itself.
  bool knows = state_ < SourceState::kReadPoint && !session_->up();
  give_up();
  if (error.kind() == ErrorKind::kAborted) {
    tell_({{"event", "aborted"}});
  } else {
    tell_({{"event", "failed"}, {"kind", kind_name(error.kind())}, {"message", error.message()}});
  }
  if (knows) return loop_.stop();
  tell_until_answered(Abort{error.message()}, kDelivery);
}

void SourceRelocation::give_up() {
  state_ = SourceState::kAborted;
  if (checksums_) checksums_->stop();
  if (migrate_socket_.valid()) {
    loop_.remove(migrate_socket_.get());
    migrate_socket_.reset();
    ::unlink((options_.runtime_dir + "/migrate.sock").c_str());
  }
  relay_.reset();
  exporter_.close_lanes();
  exporter_.close_memory();  // before anybody hears of it: discards are allowed again then
}

// Whoever hears it answers with the same and leaves. One that dies before has a successor, which
// waits for it.
void SourceRelocation::tell_until_answered(Message last_word, milliseconds patience) {
  last_word_ = std::move(last_word);
  loop_.after(patience, [this] { loop_.stop(); });
  if (session_->up()) {
    session_->send(*last_word_);
    session_->flush();
  } else {
    session_->redial_later();
  }
}

void SourceRelocation::drop() {
  if (state_ != SourceState::kCommitted) return;
  spdlog::warn("the memory was dropped by an operator before it was drained");
  tell_({{"event", "dropped"}});
  release();
  session_->send(Released{});
  session_->flush();
  let_memory_go();
  loop_.stop();
}

void SourceRelocation::revoke() {
  if (state_ != SourceState::kCommitted) return;
  // It was told so already, and has ended its QEMU or is about to.
  if (running_there_) return spdlog::warn("not taken back: the VM runs at the destination");
  if (Status written = record(CommitOutcome::kReturned); !written) {
    return tell_({{"event", "error"}, {"message", written.error().message()}});
  }
  spdlog::warn("an operator took the VM back");
  give_up();
  tell_({{"event", "returned"}, {"message", "an operator decided that it runs here"}});
  tell_until_answered(Abort{"the source's operator took the VM back, and it runs there"},
                      kDelivery);
}

// After the supervisor has heard of it: an exporter that dies in between is started again as long
// as there is a commit, and tells the destination, which would wait for it otherwise.
void SourceRelocation::release() {
  state_ = SourceState::kReleased;
  if (Status written = record(CommitOutcome::kReleased); !written) {
    spdlog::error("{}", written.error().message());
  }
  if (checksums_) checksums_->stop();
}

// After the destination was told: it would take lanes that end for a lost link, and dial anew.
void SourceRelocation::let_memory_go() {
  exporter_.close_lanes();
  exporter_.close_memory();
}

nlohmann::json SourceRelocation::status() const {
  nlohmann::json status = progress_ ? progress_to_json(*progress_) : nlohmann::json::object();
  status["event"] = "status";
  status["role"] = "exporter";
  status["state"] = source_state_name(state_);
  status["vm"] = options_.hello.vm;
  status["destination"] = options_.destination.to_string();
  status["link"] = session_->up();
  status["transport"] = rdma_ ? "rdma" : "tcp";
  status["bytes_sent"] = exporter_.counters().bytes_sent.load();
  status["running_there"] = running_there_;
  if (blackout_ns_) status["blackout_ns"] = *blackout_ns_;
  return status;
}

}  // namespace vmhop

#include "backend/source_relocation.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "backend/base/realtime.h"
#include "backend/commit_record.h"
#include "backend/progress_json.h"
#include "backend/session/limits.h"

namespace vmhop {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstRedial{50};
constexpr milliseconds kSlowestRedial{2000};
constexpr milliseconds kPingInterval{1000};
constexpr int kPingVolley = 8;
// A destination that answers nothing for so long is as good as unconnected: dial anew.
constexpr milliseconds kSilence{10'000};
constexpr milliseconds kLaneGrace{1000};
// How long an abort is worth delivering to a destination that may be in doubt.
constexpr milliseconds kAbortDelivery{600'000};
// Device state waiting to be sent before QEMU is asked to wait.
constexpr size_t kMaxQueuedState = 4 << 20;

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

SourceRelocation::SourceRelocation(EventLoop& loop, Options options, Secret key,
                                   std::vector<RamRegion> regions, Tell tell)
    : loop_(loop),
      options_(std::move(options)),
      key_(std::move(key)),
      tell_(std::move(tell)),
      exporter_(std::move(regions)) {}

SourceRelocation::~SourceRelocation() {
  *alive_ = false;
  if (session_) loop_.remove(session_->fd());
  if (migrate_socket_.valid()) loop_.remove(migrate_socket_.get());
  if (dialer_.joinable()) dialer_.join();
  if (scanner_.joinable()) scanner_.join();
}

Result<std::unique_ptr<SourceRelocation>> SourceRelocation::start(EventLoop& loop, Options options,
                                                                  Secret key,
                                                                  std::vector<RamRegion> regions,
                                                                  Tell tell) {
  std::unique_ptr<SourceRelocation> self(new SourceRelocation(
      loop, std::move(options), std::move(key), std::move(regions), std::move(tell)));
  std::string path = self->options_.runtime_dir + "/migrate.sock";
  VMHOP_ASSIGN(self->migrate_socket_, listen_unix(path, SOCK_STREAM));
  loop.set(self->migrate_socket_.get(), POLLIN, [raw = self.get()](short) { raw->accept_qemu(); });
  self->dial();
  return self;
}

// The link ------------------------------------------------------------------------------------

void SourceRelocation::dial() {
  redial_scheduled_ = false;
  if (dialer_.joinable()) dialer_.join();
  Hello hello = options_.hello;
  hello.resumed = state_ != SourceState::kConnecting;
  dialer_ = std::thread([this, alive = alive_, hello = std::move(hello), key = key_.clone()] {
    auto link =
        std::make_shared<Result<SourceLink>>(establish_link(options_.destination, key, hello));
    loop_.post([this, alive, link] {
      if (*alive) on_dialed(std::move(*link));
    });
  });
}

void SourceRelocation::on_dialed(Result<SourceLink> link) {
  if (state_ == SourceState::kReleased) return;
  if (state_ == SourceState::kConnecting) {
    if (!link) return fail(link.error());
    return on_first_link(std::move(*link));
  }
  if (!link) {
    spdlog::debug("dialing the destination again: {}", link.error().message());
    // It knows of no such relocation (any more): there is nobody in doubt.
    bool refused = link.error().kind() == ErrorKind::kRefused;
    if (refused && state_ == SourceState::kAborted) return loop_.stop();
    return schedule_redial();
  }
  on_new_link(std::move(*link));
}

void SourceRelocation::on_first_link(SourceLink link) {
  state_ = SourceState::kPreparing;
  auto layout = exporter_.scan();
  if (!layout) return fail(layout.error());
  exporter_.set_layout(std::move(*layout));
  adopt_session(std::move(link));
  if (!session_) return;
  send_layout(*exporter_.layout(), LayoutKind::kPreliminary);
  send(Prepare{});
  ping();
}

// After a lost link: what the destination may have missed is said again.
void SourceRelocation::on_new_link(SourceLink link) {
  redial_delay_ = milliseconds(0);
  adopt_session(std::move(link));
  if (!session_) return;
  if (state_ == SourceState::kAborted) {
    send(Abort{"the source gave up and runs the VM"});
    return;
  }
  tell_({{"event", "link"}, {"up", true}, {"message", "connected to the destination again"}});
  send(Commit{before_stop_});
  if (final_layout_) send_layout(*exporter_.layout(), LayoutKind::kFinal);
}

void SourceRelocation::adopt_session(SourceLink link) {
  session_ = std::move(link.session);
  uint64_t generation = ++link_generation_;
  last_heard_ = Clock::now();
  loop_.set(session_->fd(), session_->wanted_events(), [this](short) { serve_session(); });
  for (auto& lane : link.lanes) {
    Status added = exporter_.add_lane(std::move(lane.stream), lane.kind,
                                      [this, alive = alive_, generation](const Error& error) {
                                        loop_.post([this, alive, generation, error] {
                                          if (*alive) lose_lane(generation, error);
                                        });
                                      });
    if (!added) return lose_link(added.error());
  }
}

// The destination ends the session itself when it loses a lane, and closes its lanes once it is
// drained: what it has to say about it is on its way. If nothing comes, the link is done for.
void SourceRelocation::lose_lane(uint64_t generation, const Error& error) {
  loop_.after(kLaneGrace, [this, alive = alive_, generation, error] {
    if (*alive && generation == link_generation_) lose_link(error);
  });
}

void SourceRelocation::lose_link(const Error& error) {
  if (!session_) return;
  loop_.remove(session_->fd());
  session_.reset();
  ++link_generation_;
  exporter_.close_lanes();
  switch (state_) {
    case SourceState::kCommitted:
      tell_({{"event", "link"}, {"up", false}, {"message", error.message()}});
      return schedule_redial();
    case SourceState::kAborted:
      return schedule_redial();
    case SourceState::kReturned:
    case SourceState::kReleased:
      return loop_.stop();
    case SourceState::kConnecting:
    case SourceState::kPreparing:
    case SourceState::kPrepared:
    case SourceState::kReadPoint:
      return fail(error.with("the connection to the destination"));
  }
}

void SourceRelocation::schedule_redial() {
  if (redial_scheduled_) return;
  redial_scheduled_ = true;
  redial_delay_ = std::clamp(redial_delay_ * 2, kFirstRedial, kSlowestRedial);
  loop_.after(redial_delay_, [this, alive = alive_] {
    if (*alive) dial();
  });
}

void SourceRelocation::send(const Message& message) {
  if (!session_) return;
  if (Status sent = session_->send(message); !sent) return lose_link(sent.error());
  update_session_events();
}

void SourceRelocation::serve_session() {
  if (Status flushed = session_->flush(); !flushed) return lose_link(flushed.error());
  receive_all();
  update_session_events();
}

void SourceRelocation::receive_all() {
  while (session_) {
    auto message = session_->receive();
    if (!message) return lose_link(message.error());
    if (!*message) return;
    last_heard_ = Clock::now();
    on_message(**message);
  }
}

void SourceRelocation::update_session_events() {
  if (!session_) return;
  loop_.set_events(session_->fd(), session_->wanted_events());
  if (!relay_) return;
  if (session_->queued_bytes() > kMaxQueuedState) {
    relay_->pause();
  } else {
    relay_->resume();
  }
}

void SourceRelocation::ping() {
  if (session_) {
    if (Clock::now() - last_heard_ > kSilence) {
      lose_link(Error("the destination has been silent for 10 s", ErrorKind::kTimedOut));
    } else {
      send_ping();
    }
  }
  loop_.after(kPingInterval, [this, alive = alive_] {
    if (*alive) ping();
  });
}

void SourceRelocation::send_ping() {
  ping_sent_ = Clock::now();
  send(Ping{static_cast<uint64_t>(ping_sent_.time_since_epoch().count())});
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
  if (const auto* aborted = std::get_if<Abort>(&message)) {
    if (state_ == SourceState::kAborted) return release();  // delivered, and confirmed
    if (state_ < SourceState::kCommitted) {
      return fail(errorf("the destination gave up: {}", aborted->reason));
    }
    spdlog::warn("the destination wants to abort after the commit: {}", aborted->reason);
    return;
  }
  if (const auto* ping = std::get_if<Ping>(&message)) return send(Pong{ping->cookie});
  if (std::holds_alternative<Pong>(message)) {
    auto measured = std::chrono::nanoseconds(Clock::now() - ping_sent_);
    round_trip_ = round_trip_ ? std::min(*round_trip_, measured) : measured;
    if (volley_left_ > 0 && --volley_left_ > 0) send_ping();
    return;
  }
  lose_link(
      errorf("the destination sent {}, which is the source's to send", message_name(message)));
}

void SourceRelocation::on_prepared() {
  if (state_ != SourceState::kPreparing) return;
  state_ = SourceState::kPrepared;
  tell_({{"event", "prepared"}});
  // The blackout is told from half of the shortest round trip; a single one may meet a busy moment.
  volley_left_ = kPingVolley;
  send_ping();
}

void SourceRelocation::on_running(const Running& running) {
  if (state_ != SourceState::kCommitted || blackout_ns_) return;
  // From STOP to the commit by the source's clock, from its arrival to RESUME by the destination's,
  // and the way between as half of the shortest round trip seen: no two clocks are compared.
  auto way = round_trip_.value_or(std::chrono::nanoseconds(0)).count() / 2;
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
  if (Status removed = remove_commit_record(options_.runtime_dir); !removed) {
    spdlog::error("{}", removed.error().message());
    return;  // While the record is there, nobody may run the VM here.
  }
  state_ = SourceState::kReturned;
  tell_({{"event", "returned"}, {"message", returned.reason}});
  send(Released{});
  if (session_) (void)session_->flush_blocking(1000);
  exporter_.close_lanes();
  loop_.stop();
}

void SourceRelocation::on_progress(const Progress& progress) {
  progress_ = progress;
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
  report["transport"] = "tcp";
  tell_({{"event", "drained"}, {"report", report}});
  release();
}

void SourceRelocation::on_ended(const Ended& ended) {
  if (state_ != SourceState::kCommitted) return;
  tell_({{"event", "ended"}, {"reason", ended.reason}});
  release();
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
  send(DeviceState{{bytes.begin(), bytes.end()}});
}

void SourceRelocation::read_point(RunState before_stop, uint64_t stopped_realtime_ns) {
  if (state_ != SourceState::kPrepared) return;
  state_ = SourceState::kReadPoint;
  before_stop_ = before_stop;
  stopped_realtime_ns_ = stopped_realtime_ns;
  send(ReadPoint{before_stop});
}

void SourceRelocation::source_completed() {
  source_completed_ = true;
  decide_when_ready();
}

// The decision: both sides are complete, it is on disk, only then is it said.
void SourceRelocation::decide_when_ready() {
  if (state_ != SourceState::kReadPoint || !loaded_ || !source_completed_ || !session_) return;
  CommitRecord record{options_.hello.relocation, options_.destination.to_string(), before_stop_};
  if (Status written = write_commit_record(options_.runtime_dir, record); !written) {
    return fail(written.error().with("recording the commit"));
  }
  state_ = SourceState::kCommitted;
  commit_sent_realtime_ns_ = realtime_ns();
  send(Commit{before_stop_});
  tell_({{"event", "committed"}});
  scan_after_stop();
}

// What appeared since the preliminary layout. It takes time that grows with RAM, so it starts when
// the VM is on its way; until it is there the destination asks for unknown pages by name.
void SourceRelocation::scan_after_stop() {
  scanner_ = std::thread([this, alive = alive_] {
    auto layout = std::make_shared<Result<SourceLayout>>(exporter_.scan());
    loop_.post([this, alive, layout] {
      if (!*alive) return;
      if (!*layout) {
        scan_failure_ = layout->error().message();
        spdlog::error("the memory's layout: {}", scan_failure_);
        return;
      }
      exporter_.set_layout(std::move(**layout));
      final_layout_ = true;
      send_layout(*exporter_.layout(), LayoutKind::kFinal);
    });
  });
}

void SourceRelocation::send_layout(const SourceLayout& layout, LayoutKind kind) {
  for (uint32_t region = 0; region < layout.extents.size(); ++region) {
    std::span<const Extent> rest = layout.extents[region];
    do {
      size_t count = std::min(rest.size(), kMaxExtentsPerLayout);
      Layout part;
      part.region = region;
      part.kind = kind;
      part.extents.assign(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(count));
      rest = rest.subspan(count);
      part.last = rest.empty();
      send(part);
    } while (!rest.empty());
  }
}

void SourceRelocation::abort(const std::string& reason) {
  if (state_ >= SourceState::kCommitted) return;
  fail(Error(reason, ErrorKind::kAborted));
}

// Before the commit: nothing was decided, so the VM stays. A destination that has loaded its device
// state is in doubt until it hears so.
void SourceRelocation::fail(const Error& error) {
  if (state_ >= SourceState::kCommitted) return;
  bool was_connecting = state_ == SourceState::kConnecting;
  state_ = SourceState::kAborted;
  loop_.remove(migrate_socket_.get());
  migrate_socket_.reset();
  ::unlink((options_.runtime_dir + "/migrate.sock").c_str());
  relay_.reset();
  exporter_.close_lanes();
  if (error.kind() == ErrorKind::kAborted) {
    tell_({{"event", "aborted"}});
  } else {
    tell_({{"event", "failed"}, {"kind", kind_name(error.kind())}, {"message", error.message()}});
  }
  if (was_connecting) return loop_.stop();
  loop_.after(kAbortDelivery, [this] { loop_.stop(); });
  if (session_) {
    send(Abort{error.message()});
  } else {
    schedule_redial();
  }
}

void SourceRelocation::drop() {
  if (state_ != SourceState::kCommitted) return;
  spdlog::warn("the memory was dropped by an operator before it was drained");
  tell_({{"event", "dropped"}});
  release();
}

void SourceRelocation::release() {
  bool committed = state_ == SourceState::kCommitted;
  state_ = SourceState::kReleased;
  send(Released{});
  if (session_) (void)session_->flush_blocking(1000);
  exporter_.close_lanes();
  if (committed) {
    if (Status removed = remove_commit_record(options_.runtime_dir); !removed) {
      spdlog::error("{}", removed.error().message());
    }
  }
  loop_.stop();
}

nlohmann::json SourceRelocation::status() const {
  nlohmann::json status = progress_ ? progress_to_json(*progress_) : nlohmann::json::object();
  status["event"] = "status";
  status["role"] = "exporter";
  status["state"] = source_state_name(state_);
  status["vm"] = options_.hello.vm;
  status["destination"] = options_.destination.to_string();
  status["link"] = session_ != nullptr;
  status["bytes_sent"] = exporter_.counters().bytes_sent.load();
  if (blackout_ns_) status["blackout_ns"] = *blackout_ns_;
  return status;
}

}  // namespace vmhop

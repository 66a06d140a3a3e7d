#include "backend/destination_relocation.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>

#include "backend/base/realtime.h"
#include "backend/progress_json.h"
#include "backend/tcp/tcp_page_source.h"

namespace vmhop {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kProgressInterval{100};
// Sources that have the key and say nothing.
constexpr size_t kMaxNewcomers = 8;
constexpr milliseconds kHelloTimeout{5000};

std::string describe(std::span<const RegionInfo> regions) {
  std::string text;
  for (const RegionInfo& region : regions) {
    text += fmt::format("{}{} ({} MiB in {} KiB pages)", text.empty() ? "" : ", ", region.id,
                        region.size >> 20, region.page_size >> 10);
  }
  return text;
}

}  // namespace

DestinationRelocation::DestinationRelocation(EventLoop& loop, Options options,
                                             std::unique_ptr<PageMap> page_map, Tell tell)
    : loop_(loop),
      options_(std::move(options)),
      tell_(std::move(tell)),
      page_map_(std::move(page_map)),
      extents_(options_.regions.size()),
      extents_done_(options_.regions.size()),
      extents_final_(options_.regions.size()) {}

DestinationRelocation::~DestinationRelocation() {
  *alive_ = false;
  acceptor_.reset();
  if (session_) loop_.remove(session_->fd());
  for (const auto& [fd, newcomer] : newcomers_)
    loop_.remove(fd);
}

Result<std::unique_ptr<DestinationRelocation>> DestinationRelocation::start(
    EventLoop& loop, Options options, Secret key, UniqueFd listening,
    std::vector<DestinationMemory::Region> regions, std::unique_ptr<PageMap> page_map, Tell tell) {
  std::unique_ptr<DestinationRelocation> self(
      new DestinationRelocation(loop, std::move(options), std::move(page_map), std::move(tell)));
  auto posted = [raw = self.get(), &loop, alive = self->alive_](auto method) {
    return [raw, &loop, alive, method](const auto&... argument) {
      loop.post([raw, alive, method, argument...] {
        if (*alive) method(*raw, argument...);
      });
    };
  };
  Pager::Callbacks callbacks;
  callbacks.on_source_lost = posted(
      [](DestinationRelocation& relocation, const Error& error) { relocation.lose_link(error); });
  callbacks.on_idle = posted([](DestinationRelocation& relocation) { relocation.check_drained(); });
  callbacks.on_broken = posted([](DestinationRelocation& relocation, const Error& error) {
    // QEMU's end has its own report; anything else is a fault of this host, to be seen.
    if (error.kind() != ErrorKind::kClosed) {
      spdlog::error("{}: pages cannot be installed: {}", relocation.options_.vm, error.message());
      relocation.tell_({{"event", "broken"}, {"message", error.message()}});
    }
  });
  VMHOP_ASSIGN(self->pager_, Pager::start(std::move(regions), *self->page_map_,
                                          self->options_.bulk_lanes, std::move(callbacks)));
  VMHOP_ASSIGN(
      self->acceptor_,
      Acceptor::start(std::move(listening), std::move(key),
                      [raw = self.get(), &loop, alive = self->alive_](AcceptedConnection accepted) {
                        // std::function wants copies; the connection has just one owner.
                        auto held = std::make_shared<AcceptedConnection>(std::move(accepted));
                        loop.post([raw, alive, held] {
                          if (*alive) raw->on_accepted(std::move(*held));
                        });
                      }));
  self->may_read_ = self->state() >= DestinationState::kLoaded;
  return self;
}

// The link ------------------------------------------------------------------------------------

void DestinationRelocation::on_accepted(AcceptedConnection connection) {
  if (auto* session = std::get_if<AcceptedSession>(&connection)) {
    return on_session(std::move(*session));
  }
  on_lane(std::move(std::get<AcceptedLane>(connection)));
}

void DestinationRelocation::on_session(AcceptedSession session) {
  auto secret = session.stream->export_secret(kLaneSecretLabel);
  if (!secret) return spdlog::warn("{}: {}", session.peer, secret.error().message());
  if (newcomers_.size() >= kMaxNewcomers) {
    return spdlog::warn("{} is turned away: too many sources have said nothing yet", session.peer);
  }
  Newcomer newcomer{MessageStream::create(std::move(session.stream)),
                    std::make_unique<Secret>(std::move(*secret)), session.peer};
  int fd = newcomer.session->fd();
  newcomers_.insert_or_assign(fd, std::move(newcomer));
  loop_.set(fd, POLLIN, [this, fd](short) { serve_newcomer(fd); });
  loop_.after(kHelloTimeout, [this, alive = alive_, fd, peer = session.peer] {
    if (!*alive) return;
    auto it = newcomers_.find(fd);
    if (it == newcomers_.end() || it->second.peer != peer) return;
    spdlog::warn("{} connected and said nothing", peer);
    loop_.remove(fd);
    newcomers_.erase(it);
  });
  serve_newcomer(fd);  // Hello may have come with the handshake
}

void DestinationRelocation::serve_newcomer(int fd) {
  auto it = newcomers_.find(fd);
  auto message = it->second.session->receive();
  if (message && !*message) return;
  Newcomer newcomer = std::move(it->second);
  newcomers_.erase(it);
  loop_.remove(fd);
  if (!message) {
    spdlog::warn("{}: {}", newcomer.peer, message.error().message());
    // Another version's hello, for one: its user should hear why.
    if (message.error().kind() == ErrorKind::kRefused) {
      (void)newcomer.session->send(Refuse{message.error().message()});
      (void)newcomer.session->flush_blocking(1000);
    }
    return;
  }
  const auto* hello = std::get_if<Hello>(&**message);
  if (hello == nullptr) {
    return spdlog::warn("{} began with {} instead of hello", newcomer.peer,
                        message_name(**message));
  }
  if (auto objection = objection_to(*hello)) {
    spdlog::warn("{} is refused: {}", newcomer.peer, *objection);
    (void)newcomer.session->send(Refuse{*objection});
    (void)newcomer.session->flush_blocking(1000);
    return;
  }
  replace_session();
  session_ = std::move(newcomer.session);
  peer_ = newcomer.peer;
  hello_ = *hello;
  lanes_arrived_ = 0;
  auto lanes = make_lane_ids(hello->relocation, hello->fault_lanes, hello->bulk_lanes,
                             hello->lane_generation);
  if (Status expected = acceptor_->expect_lanes(lanes, *newcomer.lane_secret, hello->data);
      !expected) {
    return lose_link(expected.error());
  }
  loop_.set(session_->fd(), session_->wanted_events(), [this](short) { serve_session(); });
  greet(*hello);
  // More may have arrived with it; the socket need not say so again.
  serve_session();
}

std::optional<std::string> DestinationRelocation::objection_to(const Hello& hello) const {
  if (hello.version != kProtocolVersion) {
    return fmt::format(
        "it speaks version {} of the protocol, this side version {}: install the same vmhop on "
        "both "
        "hosts",
        hello.version, kProtocolVersion);
  }
  if (hello.vm != options_.vm) {
    return fmt::format("this is the destination of VM {}, not of {}: receive it under its name",
                       options_.vm, hello.vm);
  }
  if (state() != DestinationState::kWaiting && hello.relocation == page_map_->relocation()) {
    return std::nullopt;  // the same source again, after a lost link
  }
  if (hello.resumed) {
    return "this side knows nothing of that relocation: it was started anew since";
  }
  if (state() != DestinationState::kWaiting) {
    return fmt::format("a relocation of {} from {} is under way here", options_.vm, peer_);
  }
  if (hello.machine != options_.machine) {
    return fmt::format(
        "the VM is a {}, this side's QEMU was started as a {}: start both with the same -machine, "
        "with its version (-M {})",
        hello.machine, options_.machine, hello.machine);
  }
  if (hello.regions != options_.regions) {
    return fmt::format(
        "the VM's memory is {}, this side's QEMU has {}: start both with the same -m, memory "
        "objects and page sizes",
        describe(hello.regions), describe(options_.regions));
  }
  if (hello.fault_lanes != 1 || hello.bulk_lanes != options_.bulk_lanes) {
    return fmt::format("it wants {} fault and {} bulk connections, this side serves 1 and {}",
                       hello.fault_lanes, hello.bulk_lanes, options_.bulk_lanes);
  }
  return std::nullopt;
}

void DestinationRelocation::greet(const Hello& hello) {
  if (state() == DestinationState::kWaiting) {
    page_map_->set_relocation(hello.relocation);
    set_state(DestinationState::kPreparing);
  }
  send(Welcome{kProtocolVersion, state()});
  tell_({{"event", "connected"}, {"peer", peer_}});
  repeat_outcome();
}

// What the source may not have heard before the link was lost.
void DestinationRelocation::repeat_outcome() {
  switch (state()) {
    case DestinationState::kLoaded:
      return send(Loaded{});
    case DestinationState::kCommitted:
      if (running_after_commit_ns_) send(Running{*running_after_commit_ns_});
      return;
    case DestinationState::kDrained:
      return send(Drained{drained_after_running_ns_});
    case DestinationState::kEnded:
      return send(Ended{outcome_reason_});
    case DestinationState::kReturned:
      return send(Returned{outcome_reason_});
    case DestinationState::kWaiting:
    case DestinationState::kPreparing:
      return;
  }
}

void DestinationRelocation::on_lane(AcceptedLane lane) {
  if (!session_ || lane.id.generation != hello_.lane_generation) return;
  ++lanes_arrived_;
  lanes_.push_back(std::move(lane));
  attach_lanes_if_allowed();
  on_prepare();
}

bool DestinationRelocation::all_lanes_there() const {
  return lanes_arrived_ == size_t{hello_.fault_lanes} + hello_.bulk_lanes;
}

// Nothing is read before the read point: the VM still runs at the source, and writes. Precaching
// waits until the VM runs here: on a host with few CPUs it would take them from the two QEMUs that
// save and load device state, and lengthen the blackout; what loading needs comes by faults.
void DestinationRelocation::attach_lanes_if_allowed() {
  if (!may_read_ || state() >= DestinationState::kDrained) return;
  uint32_t page_size = options_.regions.front().page_size;
  for (const RegionInfo& region : options_.regions)
    page_size = std::min(page_size, region.page_size);
  for (AcceptedLane& lane : lanes_) {
    bool is_fault_lane = lane.id.kind == LaneKind::kFault;
    if (!lane.stream || (!is_fault_lane && !running_since_)) continue;
    auto source = std::make_unique<TcpPageSource>(std::move(lane.stream), page_size);
    if (is_fault_lane) {
      pager_->attach_fault_source(std::move(source));
    } else {
      pager_->attach_bulk_source(lane.id.index, std::move(source));
    }
  }
}

// The session and its lanes are one: they come and go together.
void DestinationRelocation::replace_session() {
  if (session_) loop_.remove(session_->fd());
  session_.reset();
  lanes_.clear();
  lanes_arrived_ = 0;
  forget_partial_layout();
  acceptor_->forget_lanes(page_map_->relocation());
  if (state() != DestinationState::kDrained) pager_->detach_sources();
}

void DestinationRelocation::lose_link(const Error& error) {
  if (!session_) return;
  replace_session();
  switch (state()) {
    case DestinationState::kWaiting:
      return;
    case DestinationState::kPreparing:
      return on_abort("the connection to the source: " + error.message());
    case DestinationState::kLoaded:
      spdlog::warn("{}: the link was lost before the source decided: {}", options_.vm,
                   error.message());
      return tell_({{"event", "in_doubt"}, {"message", error.message()}});
    case DestinationState::kCommitted:
      return tell_({{"event", "link"}, {"up", false}, {"message", error.message()}});
    case DestinationState::kDrained:
    case DestinationState::kEnded:
    case DestinationState::kReturned:
      return;  // The source comes back to hear of it.
  }
}

void DestinationRelocation::send(const Message& message) {
  if (!session_) return;
  if (Status sent = session_->send(message); !sent) return lose_link(sent.error());
  update_session_events();
}

void DestinationRelocation::serve_session() {
  if (!session_) return;
  if (Status flushed = session_->flush(); !flushed) return lose_link(flushed.error());
  while (session_) {
    auto message = session_->receive();
    if (!message) return lose_link(message.error());
    if (!*message) break;
    on_message(**message);
  }
  update_session_events();
}

void DestinationRelocation::update_session_events() {
  if (session_) loop_.set_events(session_->fd(), session_->wanted_events());
}

// What the source says ------------------------------------------------------------------------

void DestinationRelocation::on_message(const Message& message) {
  if (const auto* layout = std::get_if<Layout>(&message)) return on_layout(*layout);
  if (std::holds_alternative<Prepare>(message)) {
    prepare_asked_ = true;
    return on_prepare();
  }
  if (const auto* point = std::get_if<ReadPoint>(&message)) return on_read_point(*point);
  if (const auto* state = std::get_if<DeviceState>(&message)) return on_device_state(*state);
  if (const auto* commit = std::get_if<Commit>(&message)) return on_commit(*commit);
  if (const auto* abort = std::get_if<Abort>(&message)) return on_abort(abort->reason);
  if (std::holds_alternative<Released>(message)) return on_released();
  if (const auto* ping = std::get_if<Ping>(&message)) return send(Pong{ping->cookie});
  if (std::holds_alternative<Pong>(message)) return;
  lose_link(
      errorf("the source sent {}, which is the destination's to send", message_name(message)));
}

void DestinationRelocation::on_layout(const Layout& layout) {
  if (layout.region >= extents_.size() || final_layout_) {
    if (!final_layout_) lose_link(Error("the source's layout names a region that is not there"));
    return;
  }
  ExtentList& extents = extents_[layout.region];
  if (extents_done_[layout.region]) {
    extents.clear();
    extents_done_[layout.region] = false;
  }
  extents.insert(extents.end(), layout.extents.begin(), layout.extents.end());
  if (!layout.last) return;
  const RegionInfo& region = options_.regions[layout.region];
  if (!is_well_formed(extents, region.size, region.page_size)) {
    return lose_link(errorf("the source's layout of region {} makes no sense", region.id));
  }
  extents_done_[layout.region] = true;
  if (layout.kind == LayoutKind::kPreliminary) {
    return pager_->set_preliminary_layout(layout.region, extents);
  }
  // All of them, not just the last: what a final layout lacks becomes zeros for good.
  extents_final_[layout.region] = true;
  if (std::find(extents_final_.begin(), extents_final_.end(), false) == extents_final_.end()) {
    final_layout_ = true;
    pager_->set_final_layout(std::move(extents_));
  }
}

// The next session sends its layouts from the beginning.
void DestinationRelocation::forget_partial_layout() {
  if (final_layout_) return;
  for (ExtentList& extents : extents_)
    extents.clear();
  extents_done_.assign(extents_done_.size(), false);
  extents_final_.assign(extents_final_.size(), false);
}

void DestinationRelocation::on_prepare() {
  if (state() != DestinationState::kPreparing || !prepare_asked_ || !all_lanes_there()) return;
  prepare_asked_ = false;
  tell_({{"event", "prepare"}});
}

void DestinationRelocation::prepared() {
  qemu_prepared_ = true;
  send(Prepared{});
}

void DestinationRelocation::refuse(const std::string& reason) {
  load_failed(reason);
}

void DestinationRelocation::on_read_point(const ReadPoint& point) {
  if (state() != DestinationState::kPreparing) return;
  page_map_->set_run_state(point.before_stop);
  may_read_ = true;
  attach_lanes_if_allowed();
  start_progress();
  tell_({{"event", "read_point"}});
}

void DestinationRelocation::on_device_state(const DeviceState& state_bytes) {
  if (!qemu_prepared_) return lose_link(Error("device state came before QEMU was ready for it"));
  if (!relay_) {
    auto qemu = connect_unix(options_.incoming_socket, SOCK_STREAM);
    if (!qemu) return load_failed(qemu.error().message());
    auto relay =
        StateRelay::start(loop_, std::move(*qemu), [this](std::span<const std::byte> bytes) {
          send(ReturnPath{{bytes.begin(), bytes.end()}});
        });
    if (!relay) return load_failed(relay.error().message());
    relay_ = std::move(*relay);
  }
  relay_->write(state_bytes.bytes);
}

void DestinationRelocation::loaded() {
  if (state() != DestinationState::kPreparing) return;
  set_state(DestinationState::kLoaded);
  send(Loaded{});
  if (!session_) tell_({{"event", "in_doubt"}, {"message", "the link to the source is down"}});
}

void DestinationRelocation::load_failed(const std::string& reason) {
  if (state() != DestinationState::kPreparing) return;
  send(Abort{reason});
  if (session_) (void)session_->flush_blocking(1000);
  stop_with({{"event", "aborted"}, {"message", reason}});
}

void DestinationRelocation::on_commit(const Commit& commit) {
  if (state() > DestinationState::kCommitted) return repeat_outcome();
  if (state() != DestinationState::kLoaded) return;  // heard before
  commit_arrived_realtime_ns_ = realtime_ns();
  page_map_->set_run_state(commit.before_stop);
  set_state(DestinationState::kCommitted);
  tell_({{"event", "commit"}, {"was_running", commit.before_stop == RunState::kRunning}});
}

void DestinationRelocation::running(uint64_t resumed_realtime_ns) {
  if (state() != DestinationState::kCommitted || running_since_) return;
  running_since_ = Clock::now();
  // By QEMU's own stamp of RESUME where there is one: the way from QEMU to here is not blackout.
  uint64_t resumed =
      resumed_realtime_ns > commit_arrived_realtime_ns_ ? resumed_realtime_ns : realtime_ns();
  running_after_commit_ns_ = resumed - commit_arrived_realtime_ns_;
  send(Running{*running_after_commit_ns_});
  attach_lanes_if_allowed();
  check_drained();
}

void DestinationRelocation::returned(const std::string& reason) {
  outcome_reason_ = reason;
  set_state(DestinationState::kReturned);
  pager_->detach_sources();
  send(Returned{reason});
}

void DestinationRelocation::ended(const std::string& reason) {
  if (state() != DestinationState::kCommitted) return;
  outcome_reason_ = reason;
  set_state(DestinationState::kEnded);
  pager_->detach_sources();
  send(Ended{reason});
}

void DestinationRelocation::lost(const std::string& reason) {
  // Not `ended`: the source keeps the memory until an operator says otherwise.
  spdlog::error("{}: QEMU crashed: {}", options_.vm, reason);
  pager_->detach_sources();
  stop_with({{"event", "lost"}, {"message", reason}});
}

void DestinationRelocation::unsupervised() {
  if (state() > DestinationState::kPreparing) return;
  const char* reason = "the destination's supervisor is gone";
  send(Abort{reason});
  if (session_) (void)session_->flush_blocking(1000);
  stop_with({{"event", "aborted"}, {"message", reason}});
}

void DestinationRelocation::repeat_commit() {
  if (state() != DestinationState::kCommitted) return;
  commit_arrived_realtime_ns_ = realtime_ns();
  tell_({{"event", "commit"}, {"was_running", page_map_->run_state() == RunState::kRunning}});
}

void DestinationRelocation::on_abort(const std::string& reason) {
  if (state() >= DestinationState::kCommitted && state() != DestinationState::kReturned) {
    return spdlog::error("{}: the source wants to abort after its commit: {}", options_.vm, reason);
  }
  send(Abort{reason});  // confirmed
  if (session_) (void)session_->flush_blocking(1000);
  stop_with({{"event", "aborted"}, {"message", reason}});
}

void DestinationRelocation::on_released() {
  if (state() < DestinationState::kDrained) {
    return spdlog::error("{}: the source let its memory go before it was drained", options_.vm);
  }
  stop_with({{"event", "released"}});
}

// Bringing it home ----------------------------------------------------------------------------

void DestinationRelocation::check_drained() {
  if (state() != DestinationState::kCommitted || !running_since_ || !pager_->drained()) return;
  if (Status finished = pager_->finish(); !finished) {
    if (finished.error().kind() != ErrorKind::kClosed) {
      spdlog::error("{}: {}", options_.vm, finished.error().message());
    }
    return;
  }
  drained_after_running_ns_ =
      static_cast<uint64_t>(std::chrono::nanoseconds(Clock::now() - *running_since_).count());
  set_state(DestinationState::kDrained);
  Progress progress = pager_->progress();
  send(progress);
  send(Drained{drained_after_running_ns_});
  nlohmann::json report = progress_to_json(progress);
  report["drained_ns"] = drained_after_running_ns_;
  tell_({{"event", "drained"}, {"report", report}});
}

void DestinationRelocation::start_progress() {
  if (state() >= DestinationState::kDrained) return;
  Progress progress = pager_->progress();
  send(progress);
  nlohmann::json event = progress_to_json(progress);
  event["event"] = "progress";
  tell_(event);
  loop_.after(kProgressInterval, [this, alive = alive_] {
    if (*alive) start_progress();
  });
}

void DestinationRelocation::set_state(DestinationState state) {
  page_map_->set_destination_state(state);
}

void DestinationRelocation::stop_with(const nlohmann::json& event) {
  tell_(event);
  loop_.stop();
}

nlohmann::json DestinationRelocation::status() const {
  nlohmann::json status = progress_to_json(pager_->progress());
  const PagerCounters& counters = pager_->counters();
  auto stage = [](const Histogram& histogram) {
    return nlohmann::json{{"count", histogram.count()},
                          {"p50_ns", histogram.quantile_ns(0.5)},
                          {"p99_ns", histogram.quantile_ns(0.99)},
                          {"max_ns", histogram.max_ns()}};
  };
  status["event"] = "status";
  status["role"] = "pager";
  status["vm"] = options_.vm;
  status["state"] = destination_state_name(state());
  status["source"] = peer_;
  status["link"] = session_ != nullptr;
  status["faults_resolved_here"] = counters.faults_resolved_here.load();
  status["faults_on_reads"] = counters.faults_on_reads.load();
  status["stages"] = {{"fault_total", stage(counters.fault_total)},
                      {"fault_post", stage(counters.fault_post)},
                      {"fault_read", stage(counters.fault_read)},
                      {"fault_install", stage(counters.fault_install)},
                      {"bulk_read", stage(counters.bulk_read)}};
  return status;
}

}  // namespace vmhop

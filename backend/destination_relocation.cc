#include "backend/destination_relocation.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include "backend/base/realtime.h"
#include "backend/histogram_json.h"
#include "backend/progress_json.h"

namespace vmhop {
namespace {

constexpr std::chrono::milliseconds kProgressInterval{100};
// How long a source that cannot be reached is waited for, to hear that the VM is drained.
constexpr std::chrono::minutes kDelivery{10};

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
      page_map_(std::move(page_map)) {}

DestinationRelocation::~DestinationRelocation() {
  *alive_ = false;
}

Result<std::unique_ptr<DestinationRelocation>> DestinationRelocation::start(
    EventLoop& loop, Options options, const Credentials& credentials, UniqueFd listening,
    std::vector<DestinationMemory::Region> regions, std::unique_ptr<PageMap> page_map, Tell tell) {
  std::unique_ptr<DestinationRelocation> self(
      new DestinationRelocation(loop, std::move(options), std::move(page_map), std::move(tell)));
  VMHOP_TRY(self->start_delivery(std::move(regions)));
  VMHOP_TRY(self->start_link(credentials, std::move(listening)));
  if (self->state() >= DestinationState::kLoaded) self->delivery_->allow_faults();
  return self;
}

Status DestinationRelocation::start_delivery(std::vector<DestinationMemory::Region> regions) {
  PageDelivery::Callbacks callbacks;
  callbacks.on_source_lost = [this](const Error& error) { link_->lose(error); };
  callbacks.on_idle = [this] { check_drained(); };
  callbacks.on_broken = [this](const Error& error) {
    // QEMU's end has its own report; anything else is a fault of this host, to be seen.
    if (error.kind() == ErrorKind::kClosed) return;
    spdlog::error("{}: pages cannot be installed: {}", options_.vm, error.message());
    tell_({{"event", "broken"}, {"message", error.message()}});
  };
  callbacks.on_wrong_page = [this](const WrongPage& page) { on_wrong_page(page); };
  callbacks.on_ready = [this] { tell_when_ready(); };
  callbacks.on_answer = [this](const RdmaAnswer& answer) { link_->send(answer); };
  OneSidedTransport* one_sided = objection_to_rdma() ? nullptr : options_.one_sided;
  VMHOP_ASSIGN(delivery_,
               PageDelivery::start(loop_, {options_.regions, options_.bulk_lanes, one_sided},
                                   std::move(regions), *page_map_, std::move(callbacks)));
  return ok_status();
}

Status DestinationRelocation::start_link(const Credentials& credentials, UniqueFd listening) {
  DestinationLink::Callbacks callbacks;
  callbacks.objection = [this](const Hello& hello) { return objection_to(hello); };
  callbacks.on_up = [this] { greet(); };
  callbacks.on_message = [this](const Message& message) { on_message(message); };
  callbacks.on_lane = [this](AcceptedLane lane) {
    delivery_->on_lane(std::move(lane));
    tell_when_ready();
  };
  callbacks.on_down = [this] { delivery_->on_link_down(); };
  callbacks.on_lost = [this](const Error& error) { on_link_lost(error); };
  VMHOP_ASSIGN(link_, DestinationLink::listen(loop_, credentials, std::move(listening),
                                              std::move(callbacks)));
  return ok_status();
}

// The link ------------------------------------------------------------------------------------

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
    return fmt::format("a relocation of {} from {} is under way here", options_.vm, link_->peer());
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
  if (options_.transport.choice == TransportChoice::kRdma && !hello.rdma) {
    return "this side takes its pages by RDMA only, which the source was not told to use: relocate "
           "with --transport auto or rdma, and --rdma-trusted";
  }
  if (hello.verify) {
    // Of an attempt that comes to nothing the room stays unused.
    if (Status room = page_map_->add_checksums(); !room) {
      return "it wants its pages verified, but here " + room.error().message();
    }
  }
  return std::nullopt;
}

// Why this side does not read by RDMA, and what would change that.
std::optional<std::string> DestinationRelocation::objection_to_rdma() const {
  if (options_.transport.choice == TransportChoice::kTcp)
    return "the destination was told --transport tcp";
  if (!options_.transport.rdma_trusted) {
    return "the destination was not told that the RDMA fabric is trusted (vmhop receive "
           "--rdma-trusted, or rdma-trusted=true in its configuration file)";
  }
  if (options_.one_sided == nullptr) return "the destination's vmhop was built without RDMA";
  if (Status usable = options_.one_sided->usable(); !usable) {
    return "at the destination " + usable.error().message();
  }
  return std::nullopt;
}

void DestinationRelocation::greet() {
  if (state() == DestinationState::kWaiting) {
    page_map_->set_relocation(link_->hello().relocation);
    set_state(DestinationState::kPreparing);
  }
  delivery_->limit_precaching(link_->hello().bandwidth);
  auto objection = link_->hello().rdma ? objection_to_rdma() : std::nullopt;
  link_->send(Welcome{kProtocolVersion, state(), link_->hello().rdma && !objection,
                      objection.value_or("")});
  tell_({{"event", "connected"}, {"peer", link_->peer()}});
  repeat_outcome();
}

// What the source may not have heard before the link was lost.
void DestinationRelocation::repeat_outcome() {
  switch (state()) {
    case DestinationState::kLoaded:
      return link_->send(Loaded{});
    case DestinationState::kCommitted:
      if (running_after_commit_ns_) link_->send(Running{*running_after_commit_ns_});
      return;
    case DestinationState::kDrained:
      return link_->send(Drained{drained_after_running_ns_});
    case DestinationState::kEnded:
      return link_->send(Ended{outcome_reason_});
    case DestinationState::kReturned:
      return link_->send(Returned{outcome_reason_});
    case DestinationState::kWaiting:
    case DestinationState::kPreparing:
    case DestinationState::kAborted:
      return;
  }
}

void DestinationRelocation::on_link_lost(const Error& error) {
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
    case DestinationState::kAborted:
      return;
  }
}

// What the source says ------------------------------------------------------------------------

void DestinationRelocation::on_message(const Message& message) {
  if (const auto* layout = std::get_if<Layout>(&message)) {
    return on_page_message(delivery_->on_layout(*layout));
  }
  if (const auto* keys = std::get_if<MemoryKeys>(&message)) {
    return on_page_message(delivery_->on_keys(*keys));
  }
  if (const auto* checksums = std::get_if<Checksums>(&message)) {
    return on_page_message(delivery_->on_checksums(*checksums));
  }
  if (const auto* offer = std::get_if<RdmaOffer>(&message)) return delivery_->on_offer(*offer);
  if (std::holds_alternative<Prepare>(message)) {
    prepare_asked_ = true;
    return tell_when_ready();
  }
  if (const auto* point = std::get_if<ReadPoint>(&message)) return on_read_point(*point);
  if (const auto* state = std::get_if<DeviceState>(&message)) return on_device_state(*state);
  if (const auto* commit = std::get_if<Commit>(&message)) return on_commit(*commit);
  if (const auto* abort = std::get_if<Abort>(&message)) return on_abort(abort->reason);
  if (std::holds_alternative<Released>(message)) return on_released();
  if (const auto* ping = std::get_if<Ping>(&message)) return link_->send(Pong{ping->cookie});
  if (std::holds_alternative<Pong>(message)) return;
  link_->lose(
      errorf("the source sent {}, which is the destination's to send", message_name(message)));
}

void DestinationRelocation::on_page_message(const Status& done) {
  if (!done) link_->lose(done.error());
}

// The source stops its VM once this side says that it is prepared: what takes long comes first.
void DestinationRelocation::tell_when_ready() {
  if (state() != DestinationState::kPreparing || !prepare_asked_ || prepare_told_) return;
  if (!link_->all_lanes_there() || !delivery_->ready()) return;
  prepare_told_ = true;
  tell_({{"event", "prepare"}});
}

// Bringing it home ----------------------------------------------------------------------------

void DestinationRelocation::check_drained() {
  if (state() != DestinationState::kCommitted || !running_since_ || !delivery_->drained()) return;
  if (Status finished = delivery_->finish(); !finished) {
    if (finished.error().kind() != ErrorKind::kClosed) {
      spdlog::error("{}: {}", options_.vm, finished.error().message());
    }
    return;
  }
  drained_after_running_ns_ =
      static_cast<uint64_t>(std::chrono::nanoseconds(Clock::now() - *running_since_).count());
  set_state(DestinationState::kDrained);
  link_->send(delivery_->progress());
  link_->send(Drained{drained_after_running_ns_});
  tell_drained();
}

void DestinationRelocation::tell_drained() {
  nlohmann::json report = progress_to_json(delivery_->progress());
  report["drained_ns"] = drained_after_running_ns_;
  report["transport"] = delivery_->transport();
  report["fault_latency"] = histogram_to_json(delivery_->counters().fault_total);
  tell_({{"event", "drained"}, {"report", report}, {"regions", regions_json()}});
  loop_.after(kDelivery, [this] {
    spdlog::warn(
        "{}: the source has not come back to hear that all of the VM is here; its memory there is "
        "free after `vmhop drop {}`",
        options_.vm, options_.vm);
    loop_.stop();
  });
}

// The source is to hear of it at once, and not only with the next tenth of a second: it may be
// gone.
void DestinationRelocation::on_wrong_page(const WrongPage& page) {
  const std::string& region = options_.regions[page.region].id;
  std::string where = fmt::format("page {:#x} of {}", page.offset, region);
  if (page.fate == WrongPage::Fate::kReadAgain) {
    return spdlog::warn("{}: {} came with other bytes than the source has: it is read again",
                        options_.vm, where);
  }
  bool installed = page.fate == WrongPage::Fate::kInstalled;
  std::string message =
      installed ? where +
                      " was installed before its checksum came, and is not what the source has: "
                      "the VM is paused, it may have seen wrong bytes"
                : where +
                      " came twice with other bytes than the source has: the VM waits for it "
                      "until another connection brings the right ones";
  spdlog::error("{}: {}", options_.vm, message);
  link_->send(delivery_->progress());
  tell_({{"event", "wrong_page"},
         {"region", region},
         {"offset", page.offset},
         {"installed", installed},
         {"message", message}});
}

// For QEMU's front, which shows it.
nlohmann::json DestinationRelocation::regions_json() const {
  auto regions = nlohmann::json::array();
  for (const Pager::RegionProgress& region : delivery_->region_progress())
    regions.push_back({{"resident", region.resident}, {"faults", region.faults}});
  return regions;
}

void DestinationRelocation::start_progress() {
  if (state() >= DestinationState::kDrained) return;
  Progress progress = delivery_->progress();
  link_->send(progress);
  nlohmann::json event = progress_to_json(progress);
  event["event"] = "progress";
  event["regions"] = regions_json();
  event["fault_latency"] = histogram_to_json(delivery_->counters().fault_total);
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
  nlohmann::json status = progress_to_json(delivery_->progress());
  const PagerCounters& counters = delivery_->counters();
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
  status["source"] = link_->peer();
  status["link"] = link_->up();
  status["transport"] = delivery_->transport();
  status["route"] = delivery_->route();
  status["pages_announced"] = delivery_->pages_announced();
  status["fault_latency"] = histogram_to_json(counters.fault_total);
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

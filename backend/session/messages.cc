#include "backend/session/messages.h"

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>

#include "backend/session/identity.h"
#include "backend/session/limits.h"
#include "backend/session/wire.h"

namespace vmhop {
namespace {

constexpr size_t kMessageTypes = std::variant_size_v<Message>;
constexpr size_t kExtentSize = 16;
constexpr size_t kTicketSize = 2 * sizeof(RdmaToken);
constexpr size_t kKeySize = 8 + 8 + 8 + 4;
constexpr size_t kMinRegionSize = 4 + 8 + 4;
static_assert(kMaxExtentsPerLayout * kExtentSize + 64 < kMaxMessageBody);
static_assert(kMaxStateBytes + 64 < kMaxMessageBody);
static_assert(kMaxKeysPerMessage * kKeySize + 64 < kMaxMessageBody);
static_assert(kMaxChecksumsPerMessage * sizeof(uint32_t) + 64 < kMaxMessageBody);

// By type number - 1; the order of Message.
constexpr std::array<const char*, kMessageTypes> kNames{
    "Hello",    "Layout",   "Prepare",   "ReadPoint",  "DeviceState", "Commit",
    "Released", "Welcome",  "Refuse",    "Prepared",   "ReturnPath",  "Loaded",
    "Running",  "Returned", "Progress",  "Drained",    "Ended",       "Abort",
    "Ping",     "Pong",     "RdmaOffer", "RdmaAnswer", "MemoryKeys",  "Checksums"};

template <typename E>
constexpr std::underlying_type_t<E> code(E value) {
  return static_cast<std::underlying_type_t<E>>(value);
}

// Each message has a put() and, in the same order of fields, a get() ------------------------------

void put_reason(Encoder& out, std::string_view reason) {
  out.text(reason.substr(0, kMaxReason));
}

std::string get_reason(Decoder& in) {
  return in.text("reason", kMaxReason);
}

RunState get_run_state(Decoder& in) {
  return in.enumerated("run state", RunState::kRunning, RunState::kPaused);
}

// The version comes first and decides whether the rest can be understood at all.
uint16_t get_version(Decoder& in) {
  auto version = in.number<uint16_t>("version");
  if (version != kProtocolVersion) {
    in.fail(
        refusedf("the other side speaks version {} of the protocol, this side version {}. "
                 "Install the same vmhop on both hosts",
                 version, kProtocolVersion));
  }
  return version;
}

uint8_t get_lane_count(Decoder& in, const char* field, uint8_t limit) {
  auto count = in.number<uint8_t>(field);
  if (count < 1 || count > limit) in.fail(errorf("{} is {}, not 1 to {}", field, count, limit));
  return count;
}

void put(Encoder& out, const RegionInfo& region) {
  out.text(region.id);
  out.number(region.size);
  out.number(region.page_size);
}

void get(Decoder& in, RegionInfo& region) {
  region.id = in.text("region id", kMaxRegionId);
  region.size = in.number<uint64_t>("region size");
  region.page_size = in.number<uint32_t>("page size");
  if (in.failed()) return;
  if (region.id.empty()) in.fail(errorf("a region has no id"));
  if (!std::has_single_bit(region.page_size) || region.size == 0 ||
      region.size % region.page_size != 0) {
    in.fail(
        errorf("region {} has {} bytes in pages of {}", region.id, region.size, region.page_size));
  }
}

void put(Encoder& out, const Hello& hello) {
  out.number(hello.version);
  out.raw(std::as_bytes(std::span(hello.relocation)));
  out.text(hello.vm);
  out.text(hello.machine);
  out.text(hello.qemu_version);
  out.number(code(hello.data));
  out.number(hello.fault_lanes);
  out.number(hello.bulk_lanes);
  out.number(hello.lane_generation);
  out.boolean(hello.resumed);
  out.boolean(hello.rdma);
  out.boolean(hello.verify);
  out.number(hello.bandwidth);
  out.count(hello.regions.size());
  for (const RegionInfo& region : hello.regions)
    put(out, region);
}

void check_regions_differ(Decoder& in, const std::vector<RegionInfo>& regions) {
  for (size_t i = 0; i < regions.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (regions[i].id == regions[j].id) in.fail(errorf("region {} comes twice", regions[i].id));
    }
  }
}

void get(Decoder& in, Hello& hello) {
  hello.version = get_version(in);
  auto relocation = in.raw("relocation id", hello.relocation.size());
  if (!in.failed()) std::memcpy(hello.relocation.data(), relocation.data(), relocation.size());
  hello.vm = in.text("VM name", kMaxName);
  if (!in.failed()) {
    if (Status good = check_vm_name(hello.vm); !good) in.fail(good.error());
  }
  hello.machine = in.text("machine type", kMaxName);
  hello.qemu_version = in.text("QEMU version", kMaxName);
  hello.data = in.enumerated("data protection", DataProtection::kEncrypted, DataProtection::kPlain);
  hello.fault_lanes = get_lane_count(in, "fault lanes", kMaxFaultLanes);
  hello.bulk_lanes = get_lane_count(in, "bulk lanes", kMaxBulkLanes);
  hello.lane_generation = in.number<uint64_t>("lane generation");
  hello.resumed = in.boolean("resumed");
  hello.rdma = in.boolean("RDMA");
  hello.verify = in.boolean("verify");
  hello.bandwidth = in.number<uint64_t>("bandwidth");
  hello.regions.resize(in.count("regions", kMaxRegions, kMinRegionSize));
  for (RegionInfo& region : hello.regions)
    get(in, region);
  check_regions_differ(in, hello.regions);
}

void put(Encoder& out, const Layout& layout) {
  out.number(layout.region);
  out.number(code(layout.kind));
  out.boolean(layout.last);
  out.count(layout.extents.size());
  for (const Extent& extent : layout.extents) {
    out.number(extent.offset);
    out.number(extent.length);
  }
}

void get(Decoder& in, Layout& layout) {
  layout.region = in.number<uint32_t>("region");
  layout.kind = in.enumerated("layout kind", LayoutKind::kPreliminary, LayoutKind::kFinal);
  layout.last = in.boolean("last");
  layout.extents.resize(in.count("extents", kMaxExtentsPerLayout, kExtentSize));
  for (Extent& extent : layout.extents) {
    extent.offset = in.number<uint64_t>("extent offset");
    extent.length = in.number<uint64_t>("extent length");
  }
  // Whether they fit the region and its pages is for those to say who know them.
  if (!is_well_formed(layout.extents, std::numeric_limits<uint64_t>::max(), 1)) {
    in.fail(errorf("the extents are not a sorted list of separate ranges"));
  }
}

void put(Encoder& out, const ReadPoint& point) {
  out.number(code(point.before_stop));
}
void get(Decoder& in, ReadPoint& point) {
  point.before_stop = get_run_state(in);
}

void put(Encoder& out, const DeviceState& state) {
  out.bytes(state.bytes);
}
void get(Decoder& in, DeviceState& state) {
  state.bytes = in.bytes("device state", kMaxStateBytes);
}

void put(Encoder& out, const Commit& commit) {
  out.number(code(commit.before_stop));
}
void get(Decoder& in, Commit& commit) {
  commit.before_stop = get_run_state(in);
}

void put(Encoder& out, const Welcome& welcome) {
  out.number(welcome.version);
  out.number(code(welcome.state));
  out.boolean(welcome.rdma);
  put_reason(out, welcome.rdma_reason);
}
void get(Decoder& in, Welcome& welcome) {
  welcome.version = get_version(in);
  welcome.state =
      in.enumerated("destination state", DestinationState::kWaiting, DestinationState::kReturned);
  welcome.rdma = in.boolean("RDMA");
  welcome.rdma_reason = get_reason(in);
}

void put(Encoder& out, const ReturnPath& path) {
  out.bytes(path.bytes);
}
void get(Decoder& in, ReturnPath& path) {
  path.bytes = in.bytes("return path", kMaxStateBytes);
}

void put(Encoder& out, const Running& running) {
  out.number(running.after_commit_ns);
}
void get(Decoder& in, Running& running) {
  running.after_commit_ns = in.number<uint64_t>("after_commit_ns");
}

void put(Encoder& out, const Progress& progress) {
  for (uint64_t value : {progress.pages_total, progress.pages_resident, progress.pages_faulted,
                         progress.pages_precached, progress.pages_hole, progress.bytes_read,
                         progress.faults, progress.fault_p50_ns, progress.fault_p99_ns,
                         progress.fault_max_ns, progress.pages_verified, progress.pages_wrong}) {
    out.number(value);
  }
}
void get(Decoder& in, Progress& progress) {
  for (uint64_t* value :
       {&progress.pages_total, &progress.pages_resident, &progress.pages_faulted,
        &progress.pages_precached, &progress.pages_hole, &progress.bytes_read, &progress.faults,
        &progress.fault_p50_ns, &progress.fault_p99_ns, &progress.fault_max_ns,
        &progress.pages_verified, &progress.pages_wrong}) {
    *value = in.number<uint64_t>("progress");
  }
}

void put(Encoder& out, const Drained& drained) {
  out.number(drained.after_running_ns);
}
void get(Decoder& in, Drained& drained) {
  drained.after_running_ns = in.number<uint64_t>("after_running_ns");
}

void put(Encoder& out, const RdmaOffer& offer) {
  out.number(offer.port);
  out.count(offer.addresses.size());
  for (const std::string& address : offer.addresses)
    out.text(address);
  out.count(offer.tickets.size());
  for (const RdmaTicket& ticket : offer.tickets) {
    out.raw(std::as_bytes(std::span(ticket.request)));
    out.raw(std::as_bytes(std::span(ticket.reply)));
  }
}
void get_token(Decoder& in, RdmaToken& token) {
  auto bytes = in.raw("RDMA ticket", token.size());
  if (!in.failed()) std::memcpy(token.data(), bytes.data(), token.size());
}
void get(Decoder& in, RdmaOffer& offer) {
  offer.port = in.number<uint16_t>("RDMA port");
  offer.addresses.resize(in.count("RDMA addresses", kMaxRdmaAddresses, sizeof(uint32_t)));
  for (std::string& address : offer.addresses)
    address = in.text("RDMA address", kMaxRdmaAddress);
  offer.tickets.resize(in.count("RDMA tickets", kMaxRdmaTickets, kTicketSize));
  for (RdmaTicket& ticket : offer.tickets) {
    get_token(in, ticket.request);
    get_token(in, ticket.reply);
  }
}

void put(Encoder& out, const RdmaAnswer& answer) {
  out.boolean(answer.connected);
  put_reason(out, answer.detail);
}
void get(Decoder& in, RdmaAnswer& answer) {
  answer.connected = in.boolean("connected");
  answer.detail = get_reason(in);
}

void put(Encoder& out, const MemoryKeys& keys) {
  out.number(keys.region);
  out.count(keys.ranges.size());
  for (const MemoryKeys::Range& range : keys.ranges) {
    out.number(range.offset);
    out.number(range.length);
    out.number(range.address);
    out.number(range.key);
  }
}
void get(Decoder& in, MemoryKeys& keys) {
  keys.region = in.number<uint32_t>("region");
  keys.ranges.resize(in.count("memory keys", kMaxKeysPerMessage, kKeySize));
  for (MemoryKeys::Range& range : keys.ranges) {
    range.offset = in.number<uint64_t>("key offset");
    range.length = in.number<uint64_t>("key length");
    range.address = in.number<uint64_t>("key address");
    range.key = in.number<uint32_t>("key");
  }
}

void put(Encoder& out, const Checksums& checksums) {
  out.number(checksums.region);
  out.number(checksums.offset);
  out.boolean(checksums.last);
  out.count(checksums.pages.size());
  out.raw(std::as_bytes(std::span(checksums.pages)));
}
void get(Decoder& in, Checksums& checksums) {
  checksums.region = in.number<uint32_t>("region");
  checksums.offset = in.number<uint64_t>("checksum offset");
  checksums.last = in.boolean("last");
  checksums.pages.resize(in.count("checksums", kMaxChecksumsPerMessage, sizeof(uint32_t)));
  auto bytes = in.raw("checksums", checksums.pages.size() * sizeof(uint32_t));
  if (!in.failed() && !bytes.empty()) {
    std::memcpy(checksums.pages.data(), bytes.data(), bytes.size());
  }
}

template <typename T>
concept HasReason = requires(T message) {
  message.reason;
};
template <HasReason T>
void put(Encoder& out, const T& message) {
  put_reason(out, message.reason);
}
template <HasReason T>
void get(Decoder& in, T& message) {
  message.reason = get_reason(in);
}

template <typename T>
concept HasCookie = requires(T message) {
  message.cookie;
};
template <HasCookie T>
void put(Encoder& out, const T& message) {
  out.number(message.cookie);
}
template <HasCookie T>
void get(Decoder& in, T& message) {
  message.cookie = in.number<uint64_t>("cookie");
}

// Messages that say all by their type.
template <typename T>
concept HasNoFields = std::is_empty_v<T>;
template <HasNoFields T>
void put(Encoder& /*out*/, const T& /*message*/) {}
template <HasNoFields T>
void get(Decoder& /*in*/, T& /*message*/) {}

template <size_t kIndex>
Message decode_as(Decoder& in) {
  std::variant_alternative_t<kIndex, Message> message;
  get(in, message);
  return message;
}

template <size_t... kIndexes>
constexpr auto make_decoders(std::index_sequence<kIndexes...> /*indexes*/) {
  return std::array{&decode_as<kIndexes>...};
}
constexpr auto kDecoders = make_decoders(std::make_index_sequence<kMessageTypes>());

}  // namespace

const char* message_name(const Message& message) {
  return kNames[message.index()];
}

std::vector<std::byte> encode(const Message& message) {
  Encoder body;
  std::visit([&body](const auto& fields) { put(body, fields); }, message);
  Encoder frame;
  frame.reserve(sizeof(MessageHeader) + body.size());
  frame.number(static_cast<uint32_t>(body.size()));
  frame.number(static_cast<uint16_t>(message.index() + 1));
  frame.number<uint16_t>(0);
  frame.raw(std::move(body).take());
  return std::move(frame).take();
}

Result<MessageHeader> decode_header(std::span<const std::byte, sizeof(MessageHeader)> bytes) {
  MessageHeader header{};
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.type < 1 || header.type > kMessageTypes) {
    return refusedf("a message has the unknown type {}", header.type);
  }
  const char* name = kNames[header.type - 1];
  if (header.reserved != 0) {
    return refusedf("message {}: the reserved field is {}", name, header.reserved);
  }
  if (header.body_length > kMaxMessageBody) {
    return refusedf("message {}: {} bytes; {} are allowed", name, header.body_length,
                    kMaxMessageBody);
  }
  return header;
}

Result<Message> decode_body(const MessageHeader& header, std::span<const std::byte> body) {
  const size_t index = header.type - 1U;
  Decoder in(body);
  Message message = kDecoders[index](in);
  if (Status good = in.finish(); !good) {
    return refusedf("message {}: {}", kNames[index], good.error().message());
  }
  return message;
}

}  // namespace vmhop

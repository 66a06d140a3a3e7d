#include "rdma/memory_import.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>

#include "rdma/registrar.h"
#include "rdma/ticket.h"

namespace vmhop::rdma {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kResolveTimeout{2000};
// 4.096 µs × 2^15 = 134 ms, and seven times before a read has failed: a second. rdma_cm's own
// choice for RoCE adds up to half a minute, in which the guest would only wait. Not 7 retries: that
// is no limit at all to rxe (its completer never counts down from 7; found with a cable cut).
constexpr uint8_t kAckTimeout = 15;
constexpr uint8_t kRetries = 6;
constexpr uint32_t kMostOutstanding = 64;

uint8_t most_outgoing_reads(ibv_context* device) {
  ibv_device_attr attributes{};
  if (ibv_query_device(device, &attributes) != 0) return 1;
  return static_cast<uint8_t>(
      std::clamp<int>(attributes.max_qp_init_rd_atom, 1, static_cast<int>(kMostOutstanding)));
}

int milliseconds_left(Deadline deadline, milliseconds most) {
  auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
  return static_cast<int>(std::clamp(left, milliseconds(1), most).count());
}

// An id whose device is known because the way to `address` is.
Status resolve(const EventChannel& events, const CmId& id, Address address, Deadline deadline) {
  if (rdma_resolve_addr(id.get(), nullptr, address.get(),
                        milliseconds_left(deadline, kResolveTimeout)) != 0) {
    return cm_error("rdma_resolve_addr", errno);
  }
  VMHOP_TRY(await_event(events, RDMA_CM_EVENT_ADDR_RESOLVED, deadline));
  return ok_status();
}

// What it costs to use the device that leads there; empty when none does.
std::optional<int> distance_to(const Address& address, const Locality& locality,
                               Deadline deadline) {
  auto events = EventChannel::create();
  if (!events) return std::nullopt;
  auto id = CmId::create(*events);
  if (!id || !resolve(*events, *id, address, deadline)) return std::nullopt;
  return locality.distance_of(numa_node_of(device_name(id->device())));
}

}  // namespace

Result<std::unique_ptr<RdmaMemoryImport>> RdmaMemoryImport::connect(
    const RdmaOffer& offer, std::span<const DestinationMemory::Region> regions,
    const Locality& locality, milliseconds timeout) {
  Deadline deadline = Clock::now() + timeout;
  struct Candidate {
    Address address;
    int distance;
  };
  std::vector<Candidate> candidates;
  for (const std::string& host : offer.addresses) {
    VMHOP_ASSIGN(Address address, Address::parse(host, offer.port));
    if (auto distance = distance_to(address, locality, deadline)) {
      candidates.push_back({address, *distance});
    }
  }
  if (candidates.empty()) {
    return errorf("none of the source's RDMA addresses ({}) can be reached by an RDMA device here",
                  fmt::join(offer.addresses, ", "));
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.distance < b.distance; });

  std::optional<Error> failure;
  for (const Candidate& candidate : candidates) {
    auto memory = std::make_shared<ImportedMemory>(regions.size());
    for (const auto& region : regions)
      memory->page_sizes.push_back(region.ram.info().page_size);
    std::unique_ptr<RdmaMemoryImport> self(new RdmaMemoryImport(regions, std::move(memory)));
    Status connected = self->connect_all(offer, candidate.address, deadline);
    if (connected) return self;
    if (!failure) failure = connected.error().with("by " + candidate.address.host());
    // Tickets are used up by showing them: another address has a chance only while this one never
    // got so far.
    if (connected.error().kind() == ErrorKind::kRefused) break;
  }
  return *failure;
}

Status RdmaMemoryImport::connect_all(const RdmaOffer& offer, const Address& address,
                                     Deadline deadline) {
  for (uint16_t i = 0; i < offer.tickets.size(); ++i) {
    VMHOP_ASSIGN(Connection connection, connect_one(address, i, offer.tickets[i], deadline));
    connections_.emplace_back(std::move(connection));
  }
  const CmId& id = connections_.front()->id;
  VMHOP_ASSIGN(memory_->watch, DeviceWatch::start(id.device(), id->port_num));
  Address local;
  const sockaddr* from = rdma_get_local_addr(id.get());
  local.storage.ss_family = from->sa_family;
  std::memcpy(&local.storage, from, local.length());
  route_ = fmt::format("{}, {} from {}", device_name(id.device()), local.host(), address.host());
  return ok_status();
}

Result<Connection> RdmaMemoryImport::connect_one(const Address& address, uint16_t index,
                                                 const RdmaTicket& ticket, Deadline deadline) {
  Connection connection;
  VMHOP_ASSIGN(connection.events, EventChannel::create());
  VMHOP_ASSIGN(connection.id, CmId::create(connection.events));
  CmId& id = connection.id;
  VMHOP_TRY(resolve(connection.events, id, address, deadline));
  if (!domain_) {
    VMHOP_ASSIGN(domain_, allocate_domain(id.device()));
  }
  if (domain_->context != id.device()) {
    return errorf("the way changed from {} to {} while connecting", device_name(domain_->context),
                  device_name(id.device()));
  }
  connection.domain = domain_;
  uint8_t ack_timeout = kAckTimeout;
  // A kernel that does not know it keeps its own.
  (void)rdma_set_option(id.get(), RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &ack_timeout,
                        sizeof ack_timeout);
  if (rdma_resolve_route(id.get(), milliseconds_left(deadline, kResolveTimeout)) != 0) {
    return cm_error("rdma_resolve_route", errno);
  }
  VMHOP_TRY(await_event(connection.events, RDMA_CM_EVENT_ROUTE_RESOLVED, deadline));

  uint8_t depth = most_outgoing_reads(id.device());
  VMHOP_ASSIGN(connection.completions, CompletionQueue::create(id.device(), depth + 1));
  VMHOP_TRY(id.create_queue_pair(domain_, connection.completions.get(), {depth}));

  TicketData request = make_ticket(index, ticket.request);
  rdma_conn_param parameters{};
  parameters.private_data = &request;
  parameters.private_data_len = sizeof request;
  parameters.initiator_depth = depth;
  parameters.retry_count = kRetries;
  parameters.rnr_retry_count = kRetries;
  if (rdma_connect(id.get(), &parameters) != 0) return cm_error("rdma_connect", errno);
  VMHOP_ASSIGN(CmEvent established,
               await_event(connection.events, RDMA_CM_EVENT_ESTABLISHED, deadline));
  const rdma_conn_param& agreed = established->param.conn;
  auto reply = read_ticket(agreed.private_data, agreed.private_data_len);
  if (!reply || reply->connection != index || !same_token(*reply, ticket.reply)) {
    return refusedf("who answers at {} by RDMA is not the source", address.host());
  }
  connection.depth = std::clamp<uint32_t>(agreed.initiator_depth, 1, depth);
  return connection;
}

Status RdmaMemoryImport::add_keys(const MemoryKeys& keys) {
  if (keys.region >= region_count()) return errorf("keys of region {}", keys.region);
  const RamRegion& ram = regions_[keys.region].ram;
  std::vector<KeyedRange> ranges;
  std::vector<Extent> pieces;
  for (const MemoryKeys::Range& range : keys.ranges) {
    bool whole_pages = range.offset % ram.info().page_size == 0 &&
                       range.length % ram.info().page_size == 0 && range.length > 0;
    if (!whole_pages || range.offset > ram.info().size ||
        range.length > ram.info().size - range.offset) {
      return errorf("a key for {} bytes at {:#x} of region {} makes no sense", range.length,
                    range.offset, ram.info().id);
    }
    ranges.push_back({range.offset, range.length, range.address, range.key, 0, nullptr});
    pieces.push_back({range.offset, range.length});
  }
  // Registering allocates the pages, in the kernel's own time and not in a fault's.
  if (!registration_failed_) {
    auto registered = register_pieces(domain_, ram.alias(), pieces, IBV_ACCESS_LOCAL_WRITE);
    if (registered) {
      for (size_t i = 0; i < ranges.size(); ++i) {
        ranges[i].local_key = (*registered)[i].local_key();
        ranges[i].local = ram.alias() + ranges[i].offset;
        memory_->registrations.push_back(std::move((*registered)[i]));
      }
    } else {
      registration_failed_ = true;
      spdlog::warn("memory that arrives is copied once: {}", registered.error().message());
    }
  }
  return memory_->keys.add(keys.region, std::move(ranges));
}

Result<Connection> RdmaMemoryImport::take_connection(size_t connection) {
  if (connection >= connections_.size() || !connections_[connection]) {
    return errorf("there is no RDMA connection {} to take", connection);
  }
  Connection taken = std::move(*connections_[connection]);
  connections_[connection].reset();
  return taken;
}

Result<std::unique_ptr<PageSource>> RdmaMemoryImport::take_source(
    size_t connection, std::unique_ptr<PageSource> by_name) {
  auto use = connection == 0 ? RdmaPageSource::Use::kFaults : RdmaPageSource::Use::kBulk;
  VMHOP_ASSIGN(Connection taken, take_connection(connection));
  VMHOP_ASSIGN(auto source,
               RdmaPageSource::create(std::move(taken), memory_, use, std::move(by_name)));
  return std::unique_ptr<PageSource>(std::move(source));
}

}  // namespace vmhop::rdma

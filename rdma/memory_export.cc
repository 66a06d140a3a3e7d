#include "rdma/memory_export.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "backend/session/key.h"
#include "backend/session/limits.h"

namespace vmhop::rdma {
namespace {

constexpr int kBacklog = 16;

uint8_t most_incoming_reads(ibv_context* device) {
  ibv_device_attr attributes{};
  if (ibv_query_device(device, &attributes) != 0) return 1;
  return static_cast<uint8_t>(std::clamp(attributes.max_qp_rd_atom, 1, 255));
}

// Binding an id to an address tells whether an RDMA device is behind it.
bool has_rdma_device(const EventChannel& channel, Address address) {
  auto id = CmId::create(channel);
  return id && rdma_bind_addr(id->get(), address.get()) == 0 && id->device() != nullptr;
}

Result<std::vector<std::string>> rdma_addresses(const EventChannel& channel,
                                                const std::string& near) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return Error::from_errno("getifaddrs", errno);
  std::vector<std::string> hosts;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0) continue;
    int family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    Address address;
    std::memcpy(&address.storage, entry->ifa_addr,
                family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    auto* v6 = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
    // A link-local address means nothing to the other host without its own interface's name.
    if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr)) continue;
    if (has_rdma_device(channel, address)) hosts.push_back(address.host());
  }
  ::freeifaddrs(list);
  std::stable_partition(hosts.begin(), hosts.end(),
                        [&near](const std::string& host) { return host == near; });
  return hosts;
}

}  // namespace

Result<std::unique_ptr<RdmaMemoryExport>> RdmaMemoryExport::create(
    std::span<const RamRegion> regions, OneSidedTransport::ExportOptions options,
    std::function<void(const Error&)> on_lost) {
  VMHOP_ASSIGN(EventFd stop, EventFd::create());
  std::unique_ptr<RdmaMemoryExport> self(
      new RdmaMemoryExport(regions, options, std::move(on_lost), std::move(stop)));
  VMHOP_ASSIGN(self->events_, EventChannel::create());
  VMHOP_TRY(self->listen());
  self->thread_ = std::thread([raw = self.get()] { raw->serve(); });
  return self;
}

RdmaMemoryExport::~RdmaMemoryExport() {
  stop_.notify();
  if (thread_.joinable()) thread_.join();
  // Connections before registrations before their domain: members go in the reverse order.
  accepted_.clear();
}

Status RdmaMemoryExport::listen() {
  VMHOP_ASSIGN(listener_, CmId::create(events_));
  // Every address of both families; where IPv6 is off, of IPv4.
  Address address = Address::any(AF_INET6, 0);
  if (rdma_bind_addr(listener_.get(), address.get()) != 0) {
    VMHOP_ASSIGN(listener_, CmId::create(events_));
    address = Address::any(AF_INET, 0);
    if (rdma_bind_addr(listener_.get(), address.get()) != 0) {
      return cm_error("rdma_bind_addr", errno);
    }
  }
  if (rdma_listen(listener_.get(), kBacklog) != 0) return cm_error("rdma_listen", errno);
  port_ = ntohs(rdma_get_src_port(listener_.get()));
  return ok_status();
}

Result<RdmaOffer> RdmaMemoryExport::offer(size_t connections, const std::string& near) {
  RdmaOffer offer;
  offer.port = port_;
  VMHOP_ASSIGN(EventChannel channel, EventChannel::create());
  VMHOP_ASSIGN(offer.addresses, rdma_addresses(channel, near));
  if (offer.addresses.empty()) {
    return refusedf(
        "no address of this host belongs to an RDMA device: give its interface one (vmhop devices "
        "shows the devices)");
  }
  if (offer.addresses.size() > kMaxRdmaAddresses) offer.addresses.resize(kMaxRdmaAddresses);
  offer.tickets.resize(connections);
  for (RdmaTicket& ticket : offer.tickets) {
    VMHOP_TRY(fill_random(std::as_writable_bytes(std::span(ticket.request))));
    VMHOP_TRY(fill_random(std::as_writable_bytes(std::span(ticket.reply))));
  }
  std::map<rdma_cm_id*, Accepted> former;
  {
    std::lock_guard lock(mutex_);
    former.swap(accepted_);
    tickets_ = offer.tickets;
    used_.assign(connections, false);
    refused_because_.reset();
  }
  return offer;  // and the former connections end
}

Status RdmaMemoryExport::await_connections(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  auto all_there = [this] {
    return accepted_.size() == tickets_.size() &&
           std::all_of(accepted_.begin(), accepted_.end(),
                       [](const auto& entry) { return entry.second.established; });
  };
  changed_.wait_for(lock, timeout, [&] { return refused_because_ || all_there(); });
  if (refused_because_) return *refused_because_;
  if (!all_there()) {
    return Error(
        fmt::format("{} of {} RDMA connections came in time", accepted_.size(), tickets_.size()),
        ErrorKind::kTimedOut);
  }
  return ok_status();
}

void RdmaMemoryExport::serve() {
  for (;;) {
    std::array<pollfd, 2> polled{{{stop_.fd(), POLLIN, 0}, {events_.fd(), POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return;
    if (polled[0].revents != 0) return;
    for (;;) {
      auto event = events_.poll();
      if (!event) {
        spdlog::error("{}", event.error().message());
        return;
      }
      if (!*event) break;
      handle(std::move(*event));
    }
  }
}

void RdmaMemoryExport::handle(CmEvent event) {
  switch (event->event) {
    case RDMA_CM_EVENT_CONNECT_REQUEST:
      return on_request(std::move(event));
    case RDMA_CM_EVENT_ESTABLISHED: {
      std::lock_guard lock(mutex_);
      if (auto it = accepted_.find(event->id); it != accepted_.end()) it->second.established = true;
      changed_.notify_all();
      return;
    }
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
    case RDMA_CM_EVENT_ADDR_CHANGE:
      return;
    default: {
      rdma_cm_id* id = event->id;
      Error error = event_error(*event);
      event.reset();  // the id waits for it
      return on_ended(id, error);
    }
  }
}

void RdmaMemoryExport::on_request(CmEvent event) {
  CmId id(event->id);
  auto data = read_ticket(event->param.conn.private_data, event->param.conn.private_data_len);
  uint8_t their_depth = event->param.conn.responder_resources;
  std::string peer = "?";
  {
    Address address;
    const sockaddr* from = rdma_get_peer_addr(event->id);
    address.storage.ss_family = from->sa_family;
    std::memcpy(&address.storage, from, address.length());
    peer = address.host();
  }
  event.reset();
  std::lock_guard lock(mutex_);
  // Every ticket is compared, whichever it claims to be: the time taken tells nothing.
  std::optional<uint16_t> connection;
  for (uint16_t i = 0; i < tickets_.size(); ++i) {
    bool right = data && same_token(*data, tickets_[i].request);
    if (right && data->connection == i && !used_[i]) connection = i;
  }
  if (!connection) {
    spdlog::warn("an RDMA connection from {} has no valid ticket: rejected", peer);
    (void)rdma_reject(id.get(), nullptr, 0);
    return;
  }
  used_[*connection] = true;
  if (Status accepted = accept(std::move(id), *connection, their_depth); !accepted) {
    refused_because_ = accepted.error().with(fmt::format("an RDMA connection from {}", peer));
    changed_.notify_all();
  }
}

// (with the mutex)
Status RdmaMemoryExport::accept(CmId id, uint16_t connection, uint8_t their_depth) {
  if (Status chosen = choose_device(id.device()); !chosen) {
    (void)rdma_reject(id.get(), nullptr, 0);
    return chosen;
  }
  Accepted accepted;
  VMHOP_ASSIGN(accepted.completions, CompletionQueue::create(id.device(), 1));
  VMHOP_TRY(id.create_queue_pair(domain_, accepted.completions.get(), {}));
  TicketData reply = make_ticket(connection, tickets_[connection].reply);
  rdma_conn_param parameters{};
  parameters.private_data = &reply;
  parameters.private_data_len = sizeof reply;
  parameters.responder_resources = std::min(their_depth, most_incoming_reads(id.device()));
  parameters.rnr_retry_count = 7;
  if (rdma_accept(id.get(), &parameters) != 0) return cm_error("rdma_accept", errno);
  rdma_cm_id* key = id.get();
  accepted.id = std::move(id);
  accepted_.insert_or_assign(key, std::move(accepted));
  return ok_status();
}

// (with the mutex) Memory that is registered with one device cannot be read by another.
Status RdmaMemoryExport::choose_device(ibv_context* device) {
  if (domain_ && domain_->context == device) return ok_status();
  if (!accepted_.empty()) {
    return errorf("it came by {}, the others by {}", device_name(device),
                  device_name(domain_->context));
  }
  VMHOP_ASSIGN(domain_, allocate_domain(device));
  memory_.move_to(domain_);
  return ok_status();
}

void RdmaMemoryExport::on_ended(rdma_cm_id* id, const Error& error) {
  Accepted ended;
  {
    std::lock_guard lock(mutex_);
    auto it = accepted_.find(id);
    if (it == accepted_.end()) return;  // of a former offer
    ended = std::move(it->second);
    accepted_.erase(it);
    if (!ended.established) refused_because_ = error;
    changed_.notify_all();
  }
  if (ended.established) on_lost_(error);
}

std::string RdmaMemoryExport::device() const {
  std::lock_guard lock(mutex_);
  return domain_ ? device_name(domain_->context) : "";
}

}  // namespace vmhop::rdma

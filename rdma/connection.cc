#include "rdma/connection.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace vmhop::rdma {

Error cm_error(const char* call, int errno_value) {
  if (errno_value == ENOENT || errno_value == ENODEV) {
    return refusedf(
        "{}: {}: no RDMA device, or no /dev/infiniband/rdma_cm (modprobe rdma_ucm); vmhop devices "
        "tells more",
        call, std::strerror(errno_value));
  }
  return Error::from_errno(call, errno_value);
}

Result<EventChannel> EventChannel::create() {
  EventChannel self;
  self.channel_.reset(rdma_create_event_channel());
  if (!self.channel_) return cm_error("rdma_create_event_channel", errno);
  VMHOP_TRY(set_nonblocking(self.channel_->fd));
  return self;
}

Result<CmEvent> EventChannel::poll() const {
  rdma_cm_event* event = nullptr;
  if (rdma_get_cm_event(channel_.get(), &event) == 0) return CmEvent(event);
  if (errno == EAGAIN || errno == EINTR) return CmEvent();
  return cm_error("rdma_get_cm_event", errno);
}

socklen_t Address::length() const {
  return storage.ss_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
}

Result<Address> Address::parse(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (int cause = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
      cause != 0) {
    return errorf("{} is not an address: {}", host, ::gai_strerror(cause));
  }
  Address address;
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  ::freeaddrinfo(found);
  return address;
}

Address Address::any(int family, uint16_t port) {
  Address address;
  address.storage.ss_family = static_cast<sa_family_t>(family);
  // The same place in both families.
  reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port = htons(port);
  return address;
}

std::string Address::host() const {
  std::array<char, NI_MAXHOST> text{};
  if (::getnameinfo(get(), length(), text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0) {
    return "?";
  }
  return text.data();
}

Result<CmId> CmId::create(const EventChannel& channel) {
  rdma_cm_id* id = nullptr;
  if (rdma_create_id(channel.get(), &id, nullptr, RDMA_PS_TCP) != 0) {
    return cm_error("rdma_create_id", errno);
  }
  return CmId(id);
}

Status CmId::create_queue_pair(const ProtectionDomain& domain, ibv_cq* completions,
                               QueueSizes sizes) {
  ibv_qp_init_attr attributes{};
  attributes.qp_type = IBV_QPT_RC;
  attributes.send_cq = completions;
  attributes.recv_cq = completions;
  attributes.cap.max_send_wr = sizes.send_requests;
  attributes.cap.max_recv_wr = 1;  // nothing is ever received; some devices refuse 0
  attributes.cap.max_send_sge = 1;
  attributes.cap.max_recv_sge = 1;
  if (rdma_create_qp(id_.get(), domain.get(), &attributes) != 0) {
    return verbs_error("rdma_create_qp", device(), errno);
  }
  return ok_status();
}

void CmId::destroy_queue_pair() {
  if (id_ && id_->qp != nullptr) rdma_destroy_qp(id_.get());
}

Error event_error(const rdma_cm_event& event) {
  const char* name = rdma_event_str(event.event);
  switch (event.event) {
    case RDMA_CM_EVENT_REJECTED:
      return refusedf("the other side rejected an RDMA connection (reason {})", event.status);
    case RDMA_CM_EVENT_DISCONNECTED:
      return Error("the other side closed an RDMA connection", ErrorKind::kClosed);
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      return errorf("the RDMA device {} was removed",
                    event.id != nullptr ? device_name(event.id->verbs) : "");
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
      return errorf("the other side is not reachable by RDMA: {}{}", name,
                    event.status < 0 ? fmt::format(" ({})", std::strerror(-event.status)) : "");
    default:
      return errorf("RDMA connection event {} (status {})", name, event.status);
  }
}

Result<CmEvent> await_event(const EventChannel& channel, rdma_cm_event_type wanted,
                            Deadline deadline) {
  for (;;) {
    VMHOP_ASSIGN(CmEvent event, channel.poll());
    if (event && event->event == wanted) return event;
    if (event) return event_error(*event);
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    VMHOP_ASSIGN(short seen, wait_fd(channel.fd(), POLLIN,
                                     static_cast<int>(std::max<int64_t>(0, left.count()))));
    if (seen == 0) {
      return Error(fmt::format("no {} in time", rdma_event_str(wanted)), ErrorKind::kTimedOut);
    }
  }
}

}  // namespace vmhop::rdma

// Owners of what librdmacm hands out, and waiting for its events.
#pragma once

#include <rdma/rdma_cma.h>
#include <sys/socket.h>

#include <chrono>
#include <memory>
#include <string>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "rdma/verbs.h"

namespace vmhop::rdma {

using Deadline = std::chrono::steady_clock::time_point;

struct AcknowledgeEvent {
  void operator()(rdma_cm_event* event) const { (void)rdma_ack_cm_event(event); }
};
// Acknowledge (destroy) an event before the id that it speaks of: destroying that id waits for it.
using CmEvent = std::unique_ptr<rdma_cm_event, AcknowledgeEvent>;

// Where the events of ids arrive. Its descriptor does not block.
class EventChannel {
 public:
  EventChannel() = default;
  static Result<EventChannel> create();

  rdma_event_channel* get() const { return channel_.get(); }
  int fd() const { return channel_->fd; }
  // The next event; null when there is none.
  Result<CmEvent> poll() const;

 private:
  struct Destroy {
    void operator()(rdma_event_channel* channel) const { rdma_destroy_event_channel(channel); }
  };
  std::unique_ptr<rdma_event_channel, Destroy> channel_;
};

// A socket address with its length.
struct Address {
  sockaddr_storage storage{};
  socklen_t length() const;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }

  // Numeric only.
  static Result<Address> parse(const std::string& host, uint16_t port);
  static Address any(int family, uint16_t port);
  std::string host() const;
};

// An rdma_cm id with its queue pair, if it got one.
class CmId {
 public:
  CmId() = default;
  static Result<CmId> create(const EventChannel& channel);
  // Takes one that came with a connection request.
  explicit CmId(rdma_cm_id* id) : id_(id) {}

  rdma_cm_id* get() const { return id_.get(); }
  rdma_cm_id* operator->() const { return id_.get(); }
  ibv_context* device() const { return id_->verbs; }

  struct QueueSizes {
    uint32_t send_requests = 1;
  };
  // A reliable connection whose completions go to `completions`.
  Status create_queue_pair(const ProtectionDomain& domain, ibv_cq* completions, QueueSizes sizes);
  // Afterwards nothing is read or written by it any more.
  void destroy_queue_pair();

 private:
  struct Destroy {
    void operator()(rdma_cm_id* id) const {
      if (id->qp != nullptr) rdma_destroy_qp(id);
      (void)rdma_destroy_id(id);
    }
  };
  std::unique_ptr<rdma_cm_id, Destroy> id_;
};

// Waits for this event; any other one, or none until the deadline, is an error that says so.
Result<CmEvent> await_event(const EventChannel& channel, rdma_cm_event_type wanted,
                            Deadline deadline);
// What an event means that nobody wished for: "connection rejected", with its cause.
Error event_error(const rdma_cm_event& event);
// An rdma_cm call's error, which is in errno.
Error cm_error(const char* call, int errno_value);

}  // namespace vmhop::rdma

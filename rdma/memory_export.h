// The source's end: registered memory, and a listener that lets in whoever holds a ticket.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "backend/one_sided.h"
#include "rdma/connection.h"
#include "rdma/registered_memory.h"
#include "rdma/ticket.h"
#include "rdma/verbs.h"

namespace vmhop::rdma {

// Its listener has a thread of its own. The destination's device decides by which of ours it
// arrives; memory is registered with that one, once it has.
class RdmaMemoryExport final : public MemoryExport {
 public:
  static Result<std::unique_ptr<RdmaMemoryExport>> create(
      std::span<const RamRegion> regions, OneSidedTransport::ExportOptions options,
      std::function<void(const Error&)> on_lost);
  ~RdmaMemoryExport() override;

  Result<RdmaOffer> offer(size_t connections, const std::string& near) override;
  Status await_connections(std::chrono::milliseconds timeout) override;
  Result<std::vector<MemoryKeys>> register_memory(std::span<const ExtentList> extents) override {
    return memory_.add(extents);
  }
  std::vector<MemoryKeys> keys() const override { return memory_.keys(); }
  uint64_t registered_bytes() const override { return memory_.bytes(); }
  std::string device() const override;

 private:
  // A connection that was let in. The id's destruction ends it.
  struct Accepted {
    CompletionQueue completions;  // never used: this side posts nothing
    CmId id;
    bool established = false;
  };

  RdmaMemoryExport(std::span<const RamRegion> regions, OneSidedTransport::ExportOptions options,
                   std::function<void(const Error&)> on_lost, EventFd stop)
      : memory_(regions, options.on_demand_paging),
        on_lost_(std::move(on_lost)),
        stop_(std::move(stop)) {}

  Status listen();
  void serve();
  void handle(CmEvent event);
  void on_request(CmEvent event);
  Status accept(CmId id, uint16_t connection, uint8_t their_depth);
  void on_ended(rdma_cm_id* id, const Error& error);
  Status choose_device(ibv_context* device);

  RegisteredMemory memory_;
  std::function<void(const Error&)> on_lost_;
  EventFd stop_;
  EventChannel events_;
  uint16_t port_ = 0;
  std::thread thread_;

  // The listener's thread and the caller's.
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  ProtectionDomain domain_;
  std::vector<RdmaTicket> tickets_;
  std::vector<bool> used_;
  std::map<rdma_cm_id*, Accepted> accepted_;
  std::optional<Error> refused_because_;  // of a peer that had a ticket
  CmId listener_;
};

}  // namespace vmhop::rdma

// The destination's end: connections by the tickets of an offer, and the registered alias.
#pragma once

#include <mutex>
#include <optional>
#include <vector>

#include "backend/one_sided.h"
#include "rdma/locality.h"
#include "rdma/rdma_page_source.h"

namespace vmhop::rdma {

// add_keys() by one thread, take_source() by another.
class RdmaMemoryImport final : public MemoryImport {
 public:
  // Blocks until all connections of the offer are made, or one cannot be. Of several addresses that
  // can be reached, the one by the device nearest to `locality` comes first.
  static Result<std::unique_ptr<RdmaMemoryImport>> connect(
      const RdmaOffer& offer, std::span<const DestinationMemory::Region> regions,
      const Locality& locality, std::chrono::milliseconds timeout);

  Status add_keys(const MemoryKeys& keys) override;
  Result<std::unique_ptr<PageSource>> take_source(size_t connection,
                                                  std::unique_ptr<PageSource> by_name) override;
  // The bare connection instead of its page source: for measuring what that one costs.
  Result<Connection> take_connection(size_t connection);
  const KeyTable& keys() const { return memory_->keys; }
  std::string route() const override { return route_; }
  std::string device() const { return device_name(domain_->context); }

 private:
  RdmaMemoryImport(std::span<const DestinationMemory::Region> regions,
                   std::shared_ptr<ImportedMemory> memory)
      : regions_(regions), memory_(std::move(memory)) {}

  Status connect_all(const RdmaOffer& offer, const Address& address, Deadline deadline);
  Result<Connection> connect_one(const Address& address, uint16_t index, const RdmaTicket& ticket,
                                 Deadline deadline);
  uint32_t region_count() const { return static_cast<uint32_t>(regions_.size()); }

  std::span<const DestinationMemory::Region> regions_;
  std::shared_ptr<ImportedMemory> memory_;  // page sources share it
  ProtectionDomain domain_;
  std::vector<std::optional<Connection>> connections_;  // until they are taken
  std::string route_;
  bool registration_failed_ = false;
};

}  // namespace vmhop::rdma

// What of the source's memory is registered, with which device, and the keys to it.
#pragma once

#include <mutex>
#include <span>
#include <vector>

#include "backend/base/extents.h"
#include "backend/ram_region.h"
#include "backend/session/messages.h"
#include "rdma/verbs.h"

namespace vmhop::rdma {

// REMOTE_READ only. Any thread; one at a time adds. The regions outlive it.
class RegisteredMemory {
 public:
  RegisteredMemory(std::span<const RamRegion> regions, bool on_demand_paging)
      : regions_(regions), on_demand_paging_(on_demand_paging), registered_(regions.size()) {}

  // Memory that is registered with one device cannot be read by another: begins anew, with nothing.
  void move_to(ProtectionDomain domain);

  // Registers what of the extents (one list for each region) is not yet; the keys that this adds.
  Result<std::vector<MemoryKeys>> add(std::span<const ExtentList> extents);
  std::vector<MemoryKeys> keys() const;
  uint64_t bytes() const;

 private:
  struct Registered {
    ExtentList pieces;
    std::vector<MemoryRegion> regions;  // one for each piece
  };

  Result<MemoryKeys> add_to(uint32_t region, const ExtentList& extents,
                            const ProtectionDomain& domain, int access);
  MemoryKeys keys_of(uint32_t region, size_t first) const;

  std::span<const RamRegion> regions_;
  bool on_demand_paging_;
  mutable std::mutex mutex_;  // guards all below
  ProtectionDomain domain_;
  std::vector<Registered> registered_;  // by region
};

}  // namespace vmhop::rdma

#include "rdma/registered_memory.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "rdma/registrar.h"
#include "rdma/registration_plan.h"

namespace vmhop::rdma {
namespace {

bool offers_on_demand_reads(ibv_context* device) {
  ibv_device_attr_ex attributes{};
  if (ibv_query_device_ex(device, nullptr, &attributes) != 0) return false;
  return (attributes.odp_caps.general_caps & IBV_ODP_SUPPORT) != 0 &&
         (attributes.odp_caps.per_transport_caps.rc_odp_caps & IBV_ODP_SUPPORT_READ) != 0;
}

int access_flags(ibv_context* device, bool on_demand_paging) {
  int flags = IBV_ACCESS_REMOTE_READ;
  if (!on_demand_paging) return flags;
  if (offers_on_demand_reads(device)) return flags | IBV_ACCESS_ON_DEMAND;
  spdlog::warn("{} offers no on-demand paging of reads: the memory is pinned", device_name(device));
  return flags;
}

}  // namespace

void RegisteredMemory::move_to(ProtectionDomain domain) {
  std::vector<Registered> former(regions_.size());
  std::lock_guard lock(mutex_);
  registered_.swap(former);
  domain_ = std::move(domain);
}

Result<std::vector<MemoryKeys>> RegisteredMemory::add(std::span<const ExtentList> extents) {
  ProtectionDomain domain;
  {
    std::lock_guard lock(mutex_);
    domain = domain_;
  }
  if (!domain) return Error("nobody has connected yet: there is no device to register with");
  int access = access_flags(domain->context, on_demand_paging_);
  std::vector<MemoryKeys> added;
  for (uint32_t region = 0; region < regions_.size(); ++region) {
    VMHOP_ASSIGN(MemoryKeys keys, add_to(region, extents[region], domain, access));
    if (!keys.ranges.empty()) added.push_back(std::move(keys));
  }
  return added;
}

Result<MemoryKeys> RegisteredMemory::add_to(uint32_t region, const ExtentList& extents,
                                            const ProtectionDomain& domain, int access) {
  ExtentList known;
  {
    std::lock_guard lock(mutex_);
    known = registered_[region].pieces;
  }
  std::sort(known.begin(), known.end(),
            [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
  known = merge_gaps(known, 0);
  RegistrationLimits limits;
  limits.max_piece = std::max<uint64_t>(limits.max_piece, regions_[region].info().page_size);
  // Later additions must not reach into what is there.
  if (!known.empty()) limits.gap_share = 0;
  ExtentList pieces = plan_registration(difference(extents, known), limits);
  auto made = register_pieces(domain, regions_[region].alias(), pieces, access);
  if (!made) return made.error().with("registering region " + regions_[region].info().id);

  std::lock_guard lock(mutex_);
  if (domain != domain_) return Error("the destination came back by another device");
  Registered& entry = registered_[region];
  size_t first = entry.pieces.size();
  entry.pieces.insert(entry.pieces.end(), pieces.begin(), pieces.end());
  std::move(made->begin(), made->end(), std::back_inserter(entry.regions));
  return keys_of(region, first);
}

// (with the mutex)
MemoryKeys RegisteredMemory::keys_of(uint32_t region, size_t first) const {
  const Registered& registered = registered_[region];
  MemoryKeys keys;
  keys.region = region;
  auto base = reinterpret_cast<uint64_t>(regions_[region].alias());
  for (size_t i = first; i < registered.pieces.size(); ++i) {
    const Extent& piece = registered.pieces[i];
    keys.ranges.push_back(
        {piece.offset, piece.length, base + piece.offset, registered.regions[i].remote_key()});
  }
  return keys;
}

std::vector<MemoryKeys> RegisteredMemory::keys() const {
  std::lock_guard lock(mutex_);
  std::vector<MemoryKeys> all;
  for (uint32_t region = 0; region < registered_.size(); ++region) {
    MemoryKeys keys = keys_of(region, 0);
    if (!keys.ranges.empty()) all.push_back(std::move(keys));
  }
  return all;
}

uint64_t RegisteredMemory::bytes() const {
  std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  for (const Registered& region : registered_)
    bytes += total_length(region.pieces);
  return bytes;
}

}  // namespace vmhop::rdma

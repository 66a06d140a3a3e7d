// Where in a NUMA machine devices, threads and memory are, and where they had better be.
#pragma once

#include <hwloc.h>

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "backend/base/result.h"

namespace vmhop::rdma {

// --bind
struct BindPolicy {
  enum class Kind { kAuto, kNone, kNode };
  Kind kind = Kind::kAuto;
  unsigned node = 0;  // of kNode
  bool operator==(const BindPolicy&) const = default;
};
// "auto", "none", "node:1"
Result<BindPolicy> parse_bind_policy(const std::string& text);

// The machine as hwloc sees it. One thread uses it.
class Locality {
 public:
  // This machine.
  static Result<Locality> load(BindPolicy policy);
  // hwloc's synthetic description of one, for tests: "numa:2 core:4".
  static Result<Locality> synthetic(const std::string& description, BindPolicy policy);

  unsigned nodes() const;
  // How far a device on this node is from the VM's memory: 0 is nearest. A device whose node is not
  // known is as near as any.
  int distance_of(std::optional<unsigned> device_node) const;
  // The node to use, given the device's; empty: leave all as it is.
  std::optional<unsigned> node_for(std::optional<unsigned> device_node) const;

  // Moves all threads of this process, and those it will have, to a node's processors.
  Status bind_process(unsigned node) const;
  // Prefers the node for pages of this range that are not allocated yet.
  Status prefer_memory(unsigned node, std::span<std::byte> range) const;

 private:
  struct Destroy {
    void operator()(hwloc_topology* topology) const { hwloc_topology_destroy(topology); }
  };
  Locality(hwloc_topology* topology, BindPolicy policy) : topology_(topology), policy_(policy) {}
  hwloc_obj_t node_object(unsigned node) const;
  bool near_process(unsigned node) const;

  std::unique_ptr<hwloc_topology, Destroy> topology_;
  BindPolicy policy_;
};

// The NUMA node that a device is attached to, from sysfs; empty when the kernel does not say.
std::optional<unsigned> numa_node_of(const std::string& rdma_device);

}  // namespace vmhop::rdma

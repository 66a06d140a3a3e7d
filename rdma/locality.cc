#include "rdma/locality.h"

#include <charconv>

#include "backend/base/fd.h"

namespace vmhop::rdma {

Result<BindPolicy> parse_bind_policy(const std::string& text) {
  if (text == "auto") return BindPolicy{};
  if (text == "none") return BindPolicy{BindPolicy::Kind::kNone, 0};
  constexpr std::string_view kPrefix = "node:";
  if (text.starts_with(kPrefix)) {
    BindPolicy policy{BindPolicy::Kind::kNode, 0};
    const char* end = text.data() + text.size();
    auto parsed = std::from_chars(text.data() + kPrefix.size(), end, policy.node);
    if (parsed.ec == std::errc{} && parsed.ptr == end) return policy;
  }
  return refusedf("{} is none of auto, none and node:N", text);
}

Result<Locality> Locality::load(BindPolicy policy) {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return Error::from_errno("hwloc_topology_init", errno);
  Locality self(topology, policy);
  if (hwloc_topology_load(topology) != 0) return Error::from_errno("hwloc_topology_load", errno);
  if (policy.kind == BindPolicy::Kind::kNode && self.node_object(policy.node) == nullptr) {
    return refusedf("there is no NUMA node {}: this machine has {}", policy.node, self.nodes());
  }
  return self;
}

Result<Locality> Locality::synthetic(const std::string& description, BindPolicy policy) {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return Error::from_errno("hwloc_topology_init", errno);
  Locality self(topology, policy);
  if (hwloc_topology_set_synthetic(topology, description.c_str()) != 0) {
    return Error::from_errno("hwloc_topology_set_synthetic", errno);
  }
  if (hwloc_topology_load(topology) != 0) return Error::from_errno("hwloc_topology_load", errno);
  return self;
}

unsigned Locality::nodes() const {
  int count = hwloc_get_nbobjs_by_type(topology_.get(), HWLOC_OBJ_NUMANODE);
  return count > 0 ? static_cast<unsigned>(count) : 1;
}

hwloc_obj_t Locality::node_object(unsigned node) const {
  return hwloc_get_numanode_obj_by_os_index(topology_.get(), node);
}

// Whether this process, which inherits QEMU's own confinement to processors, may run there. Only a
// confined one says anything about where the VM's memory will be.
bool Locality::near_process(unsigned node) const {
  hwloc_obj_t object = node_object(node);
  if (object == nullptr) return true;
  hwloc_bitmap_t allowed = hwloc_bitmap_alloc();
  bool known = hwloc_get_cpubind(topology_.get(), allowed, HWLOC_CPUBIND_PROCESS) == 0;
  bool near = !known || hwloc_bitmap_intersects(allowed, object->cpuset) != 0;
  hwloc_bitmap_free(allowed);
  return near;
}

int Locality::distance_of(std::optional<unsigned> device_node) const {
  if (!device_node || nodes() == 1) return 0;
  switch (policy_.kind) {
    case BindPolicy::Kind::kNone:
      return 0;
    case BindPolicy::Kind::kNode:
      return *device_node == policy_.node ? 0 : 1;
    case BindPolicy::Kind::kAuto:
      return near_process(*device_node) ? 0 : 1;
  }
  return 0;
}

std::optional<unsigned> Locality::node_for(std::optional<unsigned> device_node) const {
  switch (policy_.kind) {
    case BindPolicy::Kind::kNone:
      return std::nullopt;
    case BindPolicy::Kind::kNode:
      return policy_.node;
    case BindPolicy::Kind::kAuto:
      if (!device_node || nodes() == 1 || node_object(*device_node) == nullptr) return std::nullopt;
      return device_node;
  }
  return std::nullopt;
}

Status Locality::bind_process(unsigned node) const {
  hwloc_obj_t object = node_object(node);
  if (object == nullptr) return errorf("there is no NUMA node {}", node);
  if (hwloc_set_cpubind(topology_.get(), object->cpuset, HWLOC_CPUBIND_PROCESS) != 0) {
    return Error::from_errno(fmt::format("binding to the processors of NUMA node {}", node), errno);
  }
  return ok_status();
}

Status Locality::prefer_memory(unsigned node, std::span<std::byte> range) const {
  hwloc_obj_t object = node_object(node);
  if (object == nullptr) return errorf("there is no NUMA node {}", node);
  if (hwloc_set_area_membind(topology_.get(), range.data(), range.size(), object->nodeset,
                             HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_BYNODESET) != 0) {
    return Error::from_errno(fmt::format("preferring memory of NUMA node {}", node), errno);
  }
  return ok_status();
}

std::optional<unsigned> numa_node_of(const std::string& rdma_device) {
  auto text = read_file("/sys/class/infiniband/" + rdma_device + "/device/numa_node", 16);
  if (!text) return std::nullopt;
  int node = -1;
  (void)std::from_chars(text->data(), text->data() + text->size(), node);
  if (node < 0) return std::nullopt;  // -1: the machine has one, or the firmware is silent
  return static_cast<unsigned>(node);
}

}  // namespace vmhop::rdma

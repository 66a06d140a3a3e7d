#include "rdma/devices.h"

#include <arpa/inet.h>
#include <infiniband/verbs.h>
#include <net/if.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "backend/base/result.h"
#include "rdma/locality.h"

namespace vmhop::rdma {
namespace {

constexpr const char* kConnectionManager = "/dev/infiniband/rdma_cm";
// Less than a small VM's memory.
constexpr uint64_t kLittleLockedMemory = 64 << 20;

// Lanes as `active_width` counts them (InfiniBand specification, PortInfo.LinkWidthActive).
double lanes(uint8_t width) {
  switch (width) {
    case 1:
      return 1;
    case 2:
      return 4;
    case 4:
      return 8;
    case 8:
      return 12;
    case 16:
      return 2;
    default:
      return 0;
  }
}

// Gbit/s of one lane, by `active_speed` (PortInfo.LinkSpeedActive and LinkSpeedExtActive).
double lane_speed(uint32_t speed) {
  switch (speed) {
    case 1:
      return 2.5;
    case 2:
      return 5;
    case 4:
    case 8:
      return 10;
    case 16:
      return 14;
    case 32:
      return 25;
    case 64:
      return 50;
    case 128:
      return 100;
    default:
      return 0;
  }
}

std::string gid_text(const ibv_gid_entry& entry) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET6, entry.gid.raw, text.data(), text.size());
  const char* type = "InfiniBand";
  if (entry.gid_type == IBV_GID_TYPE_ROCE_V1) type = "RoCE v1";
  if (entry.gid_type == IBV_GID_TYPE_ROCE_V2) type = "RoCE v2";
  return fmt::format("{} ({})", text.data(), type);
}

PortReport describe_port(ibv_context* device, unsigned number) {
  PortReport port;
  port.number = number;
  ibv_port_attr attributes{};
  if (ibv_query_port(device, static_cast<uint8_t>(number), &attributes) != 0) {
    port.state = "unknown";
    return port;
  }
  port.active = attributes.state == IBV_PORT_ACTIVE;
  port.state = ibv_port_state_str(attributes.state);
  port.link_layer = attributes.link_layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet" : "InfiniBand";
  port.gbit_per_s = lanes(attributes.active_width) * lane_speed(attributes.active_speed);
  port.mtu = 128U << attributes.active_mtu;
  for (uint32_t index = 0; index < static_cast<uint32_t>(attributes.gid_tbl_len); ++index) {
    ibv_gid_entry entry{};
    if (ibv_query_gid_ex(device, number, index, &entry, 0) != 0) continue;
    port.gids.push_back(gid_text(entry));
    std::array<char, IF_NAMESIZE> name{};
    if (entry.ndev_ifindex != 0 && ::if_indextoname(entry.ndev_ifindex, name.data()) != nullptr) {
      port.interface = name.data();
    }
  }
  return port;
}

DeviceDescription describe(ibv_device* device) {
  DeviceDescription description;
  description.name = ibv_get_device_name(device);
  description.numa_node = numa_node_of(description.name);
  ibv_context* context = ibv_open_device(device);
  if (context == nullptr) {
    description.problem = Error::from_errno("ibv_open_device", errno).message();
    return description;
  }
  ibv_device_attr_ex attributes{};
  if (int cause = ibv_query_device_ex(context, nullptr, &attributes); cause == 0) {
    const ibv_device_attr& basic = attributes.orig_attr;
    description.max_registrations = static_cast<uint64_t>(std::max(0, basic.max_mr));
    description.max_registration_bytes = basic.max_mr_size;
    description.max_reads_out = basic.max_qp_init_rd_atom;
    description.max_reads_in = basic.max_qp_rd_atom;
    description.on_demand_paging =
        (attributes.odp_caps.general_caps & IBV_ODP_SUPPORT) != 0 &&
        (attributes.odp_caps.per_transport_caps.rc_odp_caps & IBV_ODP_SUPPORT_READ) != 0;
    for (unsigned port = 1; port <= basic.phys_port_cnt; ++port)
      description.ports.push_back(describe_port(context, port));
  } else {
    description.problem = Error::from_errno("ibv_query_device_ex", cause).message();
  }
  (void)ibv_close_device(context);
  return description;
}

}  // namespace

DeviceReport report_devices() {
  DeviceReport report;
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  for (int i = 0; list != nullptr && i < count; ++i)
    report.devices.push_back(describe(list[i]));
  if (list != nullptr) ibv_free_device_list(list);
  report.has_connection_manager = ::access(kConnectionManager, R_OK | W_OK) == 0;
  report.is_root = ::geteuid() == 0;
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    report.locked_memory_limit = limit.rlim_cur;
  }
  return report;
}

bool DeviceReport::usable() const {
  return has_connection_manager &&
         std::any_of(devices.begin(), devices.end(), [](const DeviceDescription& device) {
           return device.problem.empty() &&
                  std::any_of(device.ports.begin(), device.ports.end(),
                              [](const PortReport& port) { return port.active; });
         });
}

std::string DeviceReport::advice() const {
  if (devices.empty()) {
    return "this host has no RDMA device. Load the driver of the adapter; or, on any network "
           "interface, try Soft-RoCE: modprobe rdma_rxe && rdma link add rxe0 type rxe netdev "
           "INTERFACE";
  }
  bool any_opened = std::any_of(devices.begin(), devices.end(),
                                [](const auto& device) { return device.problem.empty(); });
  if (!any_opened) {
    return fmt::format(
        "{} cannot be used: {}. Give this user access to /dev/infiniband/uverbs* or be root",
        devices.front().name, devices.front().problem);
  }
  if (!has_connection_manager) {
    return fmt::format("{} is missing or not permitted: modprobe rdma_ucm, or be root",
                       kConnectionManager);
  }
  if (!usable()) return "no port is active: plug the cable in, or raise the interface (ip link)";
  if (!is_root && locked_memory_limit && *locked_memory_limit < kLittleLockedMemory) {
    return fmt::format(
        "only {} KiB of memory may be locked, and VMs' memory is: raise RLIMIT_MEMLOCK (ulimit -l "
        "unlimited)",
        *locked_memory_limit >> 10);
  }
  return "";
}

}  // namespace vmhop::rdma

// The RDMA devices of this host, and why none may be usable: `vmhop devices`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace vmhop::rdma {

struct PortReport {
  unsigned number = 0;
  bool active = false;
  std::string state;       // "active", "down", …
  std::string link_layer;  // "Ethernet", "InfiniBand"
  double gbit_per_s = 0;
  unsigned mtu = 0;               // bytes
  std::string interface;          // the network interface behind it; empty when there is none
  std::vector<std::string> gids;  // "fe80::… (RoCE v2)"
};

struct DeviceDescription {
  std::string name;
  std::string problem;  // why it cannot be opened; empty: it can
  std::optional<unsigned> numa_node;
  uint64_t max_registrations = 0;
  uint64_t max_registration_bytes = 0;
  int max_reads_out = 0;  // outstanding on one queue pair
  int max_reads_in = 0;
  bool on_demand_paging = false;
  std::vector<PortReport> ports;
};

struct DeviceReport {
  std::vector<DeviceDescription> devices;
  bool has_connection_manager = false;  // /dev/infiniband/rdma_cm
  bool is_root = false;
  std::optional<uint64_t> locked_memory_limit;  // bytes; empty: none

  bool usable() const;
  // What is wrong and what to do about it; empty when all is well.
  std::string advice() const;
};

// Looks anew each time. From any thread.
DeviceReport report_devices();

}  // namespace vmhop::rdma

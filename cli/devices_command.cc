// `vmhop devices`: the RDMA devices of this host, and why none may be usable.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/format.h"
#include "rdma/devices.h"

namespace vmhop {
namespace {

using nlohmann::json;
using rdma::DeviceDescription;
using rdma::DeviceReport;
using rdma::PortReport;

json port_json(const PortReport& port) {
  return {{"port", port.number},           {"active", port.active},
          {"state", port.state},           {"link_layer", port.link_layer},
          {"gbit_per_s", port.gbit_per_s}, {"mtu", port.mtu},
          {"interface", port.interface},   {"gids", port.gids}};
}

json device_json(const DeviceDescription& device) {
  json ports = json::array();
  for (const PortReport& port : device.ports)
    ports.push_back(port_json(port));
  json description = {{"name", device.name},
                      {"max_registrations", device.max_registrations},
                      {"max_registration_bytes", device.max_registration_bytes},
                      {"max_reads_out", device.max_reads_out},
                      {"max_reads_in", device.max_reads_in},
                      {"on_demand_paging", device.on_demand_paging},
                      {"ports", ports}};
  description["numa_node"] = device.numa_node ? json(*device.numa_node) : json();
  if (!device.problem.empty()) description["problem"] = device.problem;
  return description;
}

json report_as_json(const DeviceReport& report) {
  json devices = json::array();
  for (const DeviceDescription& device : report.devices)
    devices.push_back(device_json(device));
  json all = {{"usable", report.usable()}, {"devices", devices}, {"advice", report.advice()}};
  all["locked_memory_limit"] =
      report.locked_memory_limit ? json(*report.locked_memory_limit) : json();
  return all;
}

std::string device_text(const DeviceDescription& device) {
  if (!device.problem.empty()) return fmt::format("{}  {}\n", device.name, device.problem);
  std::string text = fmt::format(
      "{}  NUMA node {}, {} registrations, {} reads outstanding{}\n", device.name,
      device.numa_node ? std::to_string(*device.numa_node) : "unknown", device.max_registrations,
      device.max_reads_out, device.on_demand_paging ? ", on-demand paging" : "");
  for (const PortReport& port : device.ports) {
    text += fmt::format("  port {}  {}, {}{}, {} Gbit/s, MTU {}\n", port.number, port.state,
                        port.link_layer, port.interface.empty() ? "" : " " + port.interface,
                        port.gbit_per_s, port.mtu);
    for (const std::string& gid : port.gids)
      text += fmt::format("    {}\n", gid);
  }
  return text;
}

std::string report_as_text(const DeviceReport& report) {
  std::string text;
  for (const DeviceDescription& device : report.devices)
    text += device_text(device);
  text += fmt::format("locked memory  {}\n", report.locked_memory_limit
                                                 ? format_bytes(*report.locked_memory_limit)
                                                 : "unlimited");
  if (report.usable()) {
    text += "RDMA can be used here, by VMs whose both sides were told --rdma-trusted\n";
  }
  if (std::string advice = report.advice(); !advice.empty()) {
    text += (report.usable() ? "but " : "RDMA cannot be used here: ") + advice + "\n";
  }
  return text;
}

}  // namespace

Result<int> devices(const DevicesOptions& options) {
  DeviceReport report = rdma::report_devices();
  if (options.json) {
    fmt::print("{}\n", report_as_json(report).dump());
  } else {
    fmt::print("{}", report_as_text(report));
  }
  return report.usable() ? kExitDone : kExitFailed;
}

}  // namespace vmhop

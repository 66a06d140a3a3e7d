#include "cli/vm_record.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "backend/base/json_text.h"
#include "cli/json_access.h"

namespace vmhop {
namespace {

nlohmann::json to_json(const ProcessIdentity& identity) {
  return {{"pid", identity.pid}, {"start_time", identity.start_time}};
}

ProcessIdentity identity_of(const nlohmann::json& object) {
  uint64_t pid = number_of(object, "pid");
  if (pid > static_cast<uint64_t>(std::numeric_limits<pid_t>::max())) return {};
  return {static_cast<pid_t>(pid), number_of(object, "start_time")};
}

}  // namespace

uint64_t ram_bytes(const std::vector<RegionRecord>& regions) {
  uint64_t bytes = 0;
  for (const RegionRecord& region : regions)
    bytes += region.size;
  return bytes;
}

uint64_t page_bytes(const std::vector<RegionRecord>& regions) {
  uint64_t pages = 0;
  for (const RegionRecord& region : regions)
    pages += region.page_size == 0 ? 0 : region.size / region.page_size;
  return pages == 0 ? 0 : ram_bytes(regions) / pages;
}

Status write_vm_record(const std::string& directory, const VmRecord& record) {
  nlohmann::json regions = nlohmann::json::array();
  for (const RegionRecord& region : record.regions) {
    regions.push_back({{"id", region.id},
                       {"size", region.size},
                       {"page_size", region.page_size},
                       {"address", region.address}});
  }
  nlohmann::json body = {{"version", 1},
                         {"vm", record.vm},
                         {"role", record.role},
                         {"supervisor", to_json(record.supervisor)},
                         {"qemu", to_json(record.qemu)},
                         {"exporter", to_json(record.exporter)},
                         {"pager", to_json(record.pager)},
                         {"argv", record.argv},
                         {"regions", regions},
                         {"peer", record.peer},
                         {"front", record.front},
                         {"listen", record.listen},
                         {"credentials", record.credentials},
                         {"transport", record.transport}};
  std::string text = body.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return replace_file(directory + "/vm.json", text);
}

std::optional<VmRecord> read_vm_record(const std::string& directory) {
  auto text = read_file(directory + "/vm.json", kMaxRecord);
  if (!text) return std::nullopt;
  auto body = parse_json(*text);
  if (!body.is_object()) return std::nullopt;
  VmRecord record;
  record.vm = text_of(body, "vm");
  record.role = text_of(body, "role");
  record.supervisor = identity_of(member_of(body, "supervisor"));
  record.qemu = identity_of(member_of(body, "qemu"));
  record.exporter = identity_of(member_of(body, "exporter"));
  record.pager = identity_of(member_of(body, "pager"));
  record.peer = text_of(body, "peer");
  record.front = text_of(body, "front");
  record.listen = text_of(body, "listen");
  try {
    record.credentials = body.value("credentials", CredentialsChoice());
    record.transport = body.value("transport", TransportPolicy());
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
  for (const auto& argument : member_of(body, "argv")) {
    if (argument.is_string()) record.argv.push_back(argument.get<std::string>());
  }
  for (const auto& region : member_of(body, "regions")) {
    record.regions.push_back({text_of(region, "id"), number_of(region, "size"),
                              static_cast<uint32_t>(number_of(region, "page_size")),
                              number_of(region, "address")});
  }
  return record;
}

}  // namespace vmhop

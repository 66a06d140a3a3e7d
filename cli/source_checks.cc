#include "cli/source_checks.h"

#include <algorithm>
#include <array>

#include "cli/json_access.h"
#include "cli/migration_setup.h"

namespace vmhop {
namespace {

using nlohmann::json;

// A VM in any of these moves as it is. "postmigrate" is a paused VM after a relocation that was
// rolled back; "prelaunch" one that its user started with -S.
constexpr std::array kMovable = {"running", "paused", "prelaunch", "postmigrate"};
constexpr std::array kMigrationUnderWay = {"setup",       "active",     "pre-switchover",
                                           "device",      "cancelling", "postcopy-active",
                                           "wait-unplug", "colo"};

template <size_t N>
bool is_one_of(const std::string& text, const std::array<const char*, N>& list) {
  return std::any_of(list.begin(), list.end(), [&](const char* entry) { return text == entry; });
}

Status check_run_state(QmpClient& qmp) {
  VMHOP_ASSIGN(std::string state, query_run_state(qmp));
  if (is_one_of(state, kMovable)) return ok_status();
  return refusedf(
      "QEMU reports the VM as \"{}\"; it can be relocated while it is running or paused. Resolve "
      "that in its monitor first",
      state);
}

Status check_migration(QmpClient& qmp) {
  VMHOP_ASSIGN(json migration, qmp.execute("query-migrate"));
  std::string status = text_of(migration, "status");
  if (is_one_of(status, kMigrationUnderWay)) {
    return refusedf(
        "a migration that vmhop did not start is under way in this QEMU ({}): wait for it, or "
        "cancel it with migrate_cancel",
        status);
  }
  std::string reasons;
  for (const json& reason : member_of(migration, "blocked-reasons")) {
    if (!reason.is_string()) continue;
    if (!reasons.empty()) reasons += "; ";
    reasons += reason.get<std::string>();
  }
  if (reasons.empty()) return ok_status();
  return refusedf("QEMU says that this VM cannot be migrated: {}. Unplug what blocks it", reasons);
}

// RAM that is shared is left out of QEMU's stream, RAM that vmhop holds is read by the
// destination: the two sets must be one and the same, or memory is lost or sent through the
// blackout.
Status check_memory(QmpClient& qmp, std::span<const RegionRecord> regions) {
  VMHOP_ASSIGN(json devices, qmp.execute("query-memdev"));
  size_t found = 0;
  for (const json& device : devices) {
    std::string id = text_of(device, "id");
    uint64_t size = number_of(device, "size");
    auto known = std::find_if(regions.begin(), regions.end(),
                              [&](const RegionRecord& region) { return region.id == id; });
    if (known == regions.end()) {
      return refusedf(
          "the memory backend {} ({} MiB) was added while the VM ran, so vmhop does not hold its "
          "memory. Unplug it before relocating",
          id.empty() ? "without an id" : id, size >> 20);
    }
    if (!flag_of(device, "share", false)) {
      return refusedf("the memory backend {} is not shared (share=off): start the VM with vmhop",
                      id);
    }
    if (size != known->size) {
      return refusedf("the memory backend {} has {} bytes, not {} as started", id, size,
                      known->size);
    }
    ++found;
  }
  if (found == regions.size()) return ok_status();
  return refusedf("QEMU has {} of the VM's {} memory backends: {} cannot be left behind", found,
                  regions.size(), regions.size() - found);
}

}  // namespace

Result<std::string> query_run_state(QmpClient& qmp) {
  VMHOP_ASSIGN(json status, qmp.execute("query-status"));
  return text_of(status, "status");
}

Result<std::string> query_machine(QmpClient& qmp) {
  VMHOP_ASSIGN(json type, qmp.execute("qom-get", {{"path", "/machine"}, {"property", "type"}}));
  if (!type.is_string()) return errorf("QEMU does not say which machine type it has");
  auto name = type.get<std::string>();
  constexpr std::string_view kSuffix = "-machine";
  if (name.ends_with(kSuffix)) name.resize(name.size() - kSuffix.size());
  return name;
}

Result<SourceFacts> check_source(QmpClient& qmp, std::span<const RegionRecord> regions) {
  VMHOP_TRY(check_run_state(qmp));
  VMHOP_TRY(check_capabilities(qmp, MigrationSide::kSource));
  VMHOP_TRY(check_migration(qmp));
  VMHOP_TRY(check_memory(qmp, regions));
  VMHOP_ASSIGN(std::string machine, query_machine(qmp));
  return SourceFacts{machine, qmp.qemu_version()};
}

}  // namespace vmhop

#include "cli/migration_setup.h"

#include <set>

#include "cli/json_access.h"

namespace vmhop {
namespace {

using nlohmann::json;

// Bytes a second: only "no limit at all" in effect; 0 would mean none may be sent.
constexpr uint64_t kUnlimited = 1ULL << 40;
// Device state and VGA memory go at once: convergence must never wait for an estimate. The VM's
// actual blackout has nothing to do with it.
constexpr uint64_t kDowntimeLimitMs = 2000;

std::set<std::string> needed(MigrationSide side) {
  std::set<std::string> names = {"x-ignore-shared", "return-path", "events", "late-block-activate"};
  if (side == MigrationSide::kSource) names.insert("pause-before-switchover");
  return names;
}

Result<std::map<std::string, bool>> current_capabilities(QmpClient& qmp) {
  VMHOP_ASSIGN(json list, qmp.execute("query-migrate-capabilities"));
  std::map<std::string, bool> capabilities;
  for (const json& entry : list) {
    capabilities[text_of(entry, "capability")] = flag_of(entry, "state", false);
  }
  return capabilities;
}

Status set_capabilities(QmpClient& qmp, const std::map<std::string, bool>& changes) {
  if (changes.empty()) return ok_status();
  json list = json::array();
  for (const auto& [name, state] : changes)
    list.push_back({{"capability", name}, {"state", state}});
  VMHOP_TRY(qmp.execute("migrate-set-capabilities", {{"capabilities", list}}));
  return ok_status();
}

}  // namespace

Status check_capabilities(QmpClient& qmp, MigrationSide side) {
  VMHOP_ASSIGN(auto capabilities, current_capabilities(qmp));
  for (const std::string& name : needed(side)) {
    if (!capabilities.contains(name)) {
      return refusedf(
          "this QEMU ({}) lacks the migration capability {}: use QEMU 4.0 or newer, built with it",
          qmp.qemu_version(), name);
    }
  }
  return ok_status();
}

Status MigrationSetup::apply(QmpClient& qmp, MigrationSide side) {
  VMHOP_ASSIGN(found_capabilities_, current_capabilities(qmp));
  VMHOP_ASSIGN(found_parameters_, qmp.execute("query-migrate-parameters"));
  std::set<std::string> wanted = needed(side);
  std::map<std::string, bool> changes;
  for (const auto& [name, state] : found_capabilities_) {
    if (state != wanted.contains(name)) changes[name] = !state;
  }
  VMHOP_TRY(set_capabilities(qmp, changes));
  // The stream stays on this host's unix socket; the session between the hosts encrypts it.
  json parameters = {
      {"max-bandwidth", kUnlimited}, {"downtime-limit", kDowntimeLimitMs}, {"tls-creds", ""}};
  VMHOP_TRY(qmp.execute("migrate-set-parameters", parameters));
  return ok_status();
}

Status MigrationSetup::restore(QmpClient& qmp) {
  if (found_capabilities_.empty()) return ok_status();
  VMHOP_ASSIGN(auto now, current_capabilities(qmp));
  std::map<std::string, bool> changes;
  for (const auto& [name, state] : now) {
    auto found = found_capabilities_.find(name);
    if (found != found_capabilities_.end() && found->second != state) changes[name] = !state;
  }
  VMHOP_TRY(set_capabilities(qmp, changes));
  json parameters = json::object();
  for (const char* key : {"max-bandwidth", "downtime-limit", "tls-creds"}) {
    const json& value = member_of(found_parameters_, key);
    if (!value.is_null()) parameters[key] = value;
  }
  VMHOP_TRY(qmp.execute("migrate-set-parameters", parameters));
  found_capabilities_.clear();
  return ok_status();
}

json MigrationSetup::found() const {
  return {{"capabilities", found_capabilities_}, {"parameters", found_parameters_}};
}

MigrationSetup MigrationSetup::from_found(const json& found) {
  MigrationSetup setup;
  for (const auto& [name, state] : member_of(found, "capabilities").items()) {
    if (state.is_boolean()) setup.found_capabilities_[name] = state.get<bool>();
  }
  setup.found_parameters_ = member_of(found, "parameters");
  return setup;
}

Status announce(QmpClient& qmp) {
  VMHOP_ASSIGN(json parameters, qmp.execute("query-migrate-parameters"));
  json arguments = {{"initial", number_of(parameters, "announce-initial", 50)},
                    {"max", number_of(parameters, "announce-max", 550)},
                    {"rounds", number_of(parameters, "announce-rounds", 5)},
                    {"step", number_of(parameters, "announce-step", 100)}};
  VMHOP_TRY(qmp.execute("announce-self", arguments));
  return ok_status();
}

}  // namespace vmhop

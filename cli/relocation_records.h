// The last relocation of each VM on this host, kept when the VM has left: <base>/.relocations/, a
// JSON file for each name (docs/protocol-local.md). What `vmhop report` and `vmhop metrics` read.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/result.h"

namespace vmhop {

// Of so many VMs; the oldest go.
inline constexpr size_t kMaxRelocationRecords = 64;

// Replaces the VM's record in one step.
Status save_relocation_record(const std::string& base, const std::string& vm,
                              const nlohmann::json& record);
// Nothing when there is none of that name, or none that can be read.
std::optional<nlohmann::json> load_relocation_record(const std::string& base,
                                                     const std::string& vm);
// All of them, by name.
std::vector<nlohmann::json> load_relocation_records(const std::string& base);

}  // namespace vmhop

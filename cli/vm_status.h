// What there is to know about a VM of this host, asked of whoever of it still lives.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/runtime_dir.h"

namespace vmhop {

// As the supervisor says, or else the exporter or pager that outlived it ("supervisor": false), or
// else what the directory tells. Nothing when there is no such VM.
std::optional<nlohmann::json> query_vm_status(const VmPaths& paths, const std::string& name);

// One line for each VM, with a heading.
std::string status_table(const std::vector<nlohmann::json>& statuses);
// All of one VM.
std::string status_details(const nlohmann::json& status);

}  // namespace vmhop

// The metrics of a host's VMs. docs/metrics.md says what each means; a test holds the two together.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/metrics_text.h"

namespace vmhop {

// `statuses` as query_vm_status() has them, `records` as load_relocation_records().
std::string vm_metrics(const std::vector<nlohmann::json>& statuses,
                       const std::vector<nlohmann::json>& records, MetricsFormat format);

// The metrics of all VMs below `base`, now.
std::string host_metrics(const std::string& base, MetricsFormat format);

}  // namespace vmhop

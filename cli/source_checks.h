// What must hold before a VM is relocated away. All of it is asked while the VM runs: whatever
// cannot work is refused before the VM is stopped.
#pragma once

#include <span>
#include <string>

#include "backend/base/result.h"
#include "cli/qmp_client.h"
#include "cli/vm_record.h"

namespace vmhop {

struct SourceFacts {
  std::string machine;       // "pc-q35-7.2"
  std::string qemu_version;  // "7.2.22"
};

// kRefused with the cause and the remedy when this VM cannot be relocated now.
Result<SourceFacts> check_source(QmpClient& qmp, std::span<const RegionRecord> regions);

// QEMU's run state: "running", "paused", …
Result<std::string> query_run_state(QmpClient& qmp);

// QEMU's full name of its machine type.
Result<std::string> query_machine(QmpClient& qmp);

}  // namespace vmhop

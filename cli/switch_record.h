// The file "switch" in a VM's runtime directory: what a supervisor must know to go on with a
// relocation, or to take one back, that it did not begin itself (`vmhop recover`). Written by the
// supervisor's worker before it acts, at either side; gone when the relocation is over.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "backend/base/result.h"
#include "backend/transport_choice.h"
#include "cli/credentials_choice.h"

namespace vmhop {

struct SwitchRecord {
  std::string machine;           // QEMU's full name of the machine type
  std::string qemu_version;      // "7.2.22"
  nlohmann::json found_in_qemu;  // MigrationSetup's: what the user had set in QEMU
  // The source's.
  bool was_running = true;  // when the VM was stopped for its migration
  bool plain_data = false;
  TransportPolicy transport;
  CredentialsChoice credentials;  // that the relocation was asked for with
  // The destination's: the VM has been continued here, or was found to be paused as it was.
  bool arrived = false;
};

// Replaces the file in one step. It need not outlive the host, so it is not synced.
Status write_switch_record(const std::string& directory, const SwitchRecord& record);
// Empty when there is none; one that cannot be read is an error.
Result<std::optional<SwitchRecord>> read_switch_record(const std::string& directory);
void remove_switch_record(const std::string& directory);

}  // namespace vmhop

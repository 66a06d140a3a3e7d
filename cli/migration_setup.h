// QEMU's migration settings for a relocation, and back to what the user had.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "backend/base/result.h"
#include "cli/qmp_client.h"

namespace vmhop {

enum class MigrationSide { kSource, kDestination };

// kRefused when this QEMU lacks a capability that a relocation needs.
Status check_capabilities(QmpClient& qmp, MigrationSide side);

class MigrationSetup {
 public:
  // Sets exactly the capabilities of a relocation (any other that the user had set is off: it would
  // change the stream) and parameters that keep nothing waiting.
  Status apply(QmpClient& qmp, MigrationSide side);
  // Back to what apply() found; nothing if it was not called.
  Status restore(QmpClient& qmp);

  // What apply() found, for a supervisor that has to restore it in place of this one.
  nlohmann::json found() const;
  static MigrationSetup from_found(const nlohmann::json& found);

 private:
  std::map<std::string, bool> found_capabilities_;
  nlohmann::json found_parameters_;
};

// Tells the switches where the VM is now, with the rounds and intervals set in QEMU.
Status announce(QmpClient& qmp);

}  // namespace vmhop

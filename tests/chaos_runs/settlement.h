// What an operator does after the trouble: recovers what lost its supervisor, decides what is in
// doubt where that cannot be wrong, and waits until the VM is somewhere.
#pragma once

#include <optional>
#include <string>

#include "tests/chaos_runs/world.h"

namespace vmhop::chaos {

struct Settlement {
  std::optional<Side> runs_on;
  bool committed = false;
  bool both_run = false;
  std::string story;  // the last that was seen, when it runs nowhere
};

Settlement settle(World& world, lab::Process& relocating, bool committed);

}  // namespace vmhop::chaos

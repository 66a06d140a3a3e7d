// What a VM cannot have if it is to be relocated by vmhop, found on QEMU's command line before
// QEMU starts. Each message names the cause and the remedy.
#pragma once

#include <span>

#include "backend/base/result.h"
#include "cli/qemu_options.h"

namespace vmhop {

enum class VmRole {
  kRun,      // the VM starts here
  kReceive,  // it will arrive
};

Status check_relocatable(std::span<const QemuOption> options, VmRole role);

}  // namespace vmhop

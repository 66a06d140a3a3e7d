// The QEMU that the lab's guests run in.
#pragma once

#include <string>

#include "backend/base/result.h"

namespace vmhop::lab {

// $VMHOP_LAB_QEMU: a program, or a version ("7.2", "10.0") that ci/qemu builds with the object
// memory-backend-postcopy. Unless set, the system's own qemu-system-x86_64. Ends the test program
// when there is no such QEMU.
std::string lab_qemu();

// By which front it is reached: "object" or "preload".
const char* lab_front();

// The QEMU of ci/qemu, built first if it must be. It takes `version` to be a program if it has a /.
Result<std::string> patched_qemu(const std::string& version);

}  // namespace vmhop::lab

// The two fronts inside QEMU that hand its RAM over, and which of them a given QEMU gets.
#pragma once

#include <string>
#include <string_view>

#include "backend/base/result.h"

namespace vmhop {

enum class Front {
  kObject,   // the QOM object memory-backend-postcopy, in a QEMU that was built with it
  kPreload,  // libvmhop-preload.so, for a stock QEMU
};
const char* front_name(Front front);  // "object", "preload"

// "auto" takes the object where QEMU has it. kRefused when the QEMU lacks what was asked for.
// Starts `program` (found in PATH) to ask it, with -object help.
Result<Front> choose_front(std::string_view choice, const std::string& program);

}  // namespace vmhop

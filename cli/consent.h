// Asks a person before something that cannot be undone.
#pragma once

#include <string>

#include "backend/base/result.h"

namespace vmhop {

// Says what will happen and waits for "yes". kRefused when there is no terminal to ask at.
Result<bool> agreed(const std::string& consequence);

}  // namespace vmhop

// Connecting to a socket that a program is about to make.
#pragma once

#include <string>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "tests/lab/clock.h"

namespace vmhop::lab {

// Waits, by inotify, until the socket is there and accepts. Its directory must exist.
Result<UniqueFd> connect_when_there(const std::string& path, Deadline deadline);

}  // namespace vmhop::lab

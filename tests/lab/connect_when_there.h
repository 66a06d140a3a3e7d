// Connecting to a socket that a program is about to make.
#pragma once

#include <string>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "tests/lab/clock.h"

namespace vmhop::lab {

// Waits until the socket is there and accepts. `where` is the path of a unix socket, waited for by
// inotify (its directory must exist), or ADDRESS:PORT, tried again and again.
Result<UniqueFd> connect_when_there(const std::string& where, Deadline deadline);

}  // namespace vmhop::lab

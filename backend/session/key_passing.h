// How a key or certificates go from one of our processes to another on the same host: as a
// descriptor beside a control message, never in its text. The descriptor is of a pipe that holds
// them: memory of the kernel, which is in nobody's core dump and never swapped out, and whoever
// only passes it on never has the key at all.
#pragma once

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "backend/session/credentials.h"

namespace vmhop {

// The descriptor to send. It can be taken from once.
Result<UniqueFd> pass_credentials(const Credentials& credentials);
// What a descriptor that was received holds; never waits.
Result<Credentials> take_credentials(UniqueFd passed);

}  // namespace vmhop

// The pager as a process of its own: the destination's side of a relocation, from the listening
// port until every page is there. docs/protocol-local.md has what it says to its supervisor,
// docs/protocol.md what it says to the source.
#pragma once

#include "backend/base/fd.h"
#include "backend/one_sided.h"

namespace vmhop {

// `control` is the supervisor's SOCK_SEQPACKET socket. Returns the process's exit code.
int run_pager_process(UniqueFd control, const OneSidedFactory& one_sided);

}  // namespace vmhop

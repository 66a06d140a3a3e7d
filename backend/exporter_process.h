// The exporter as a process of its own: the source's side of a relocation, from the first
// connection until the destination has every page. docs/protocol-local.md has what it says to its
// supervisor, docs/protocol.md what it says to the destination.
#pragma once

#include "backend/base/fd.h"
#include "backend/one_sided.h"

namespace vmhop {

// `control` is the supervisor's SOCK_SEQPACKET socket. Returns the process's exit code.
int run_exporter_process(UniqueFd control, const OneSidedFactory& one_sided);

}  // namespace vmhop

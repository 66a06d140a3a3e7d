// What a helper process gives up before it talks to anybody: a pager or an exporter that somebody
// breaks into by the network can do little more than what it is for.
#pragma once

#include <string>

#include "backend/base/result.h"

namespace vmhop {

// For processes that serve, at their beginning, while they have one thread: no new privileges, no
// capabilities, no core dumps and no debugger of the same user, a filter of system calls
// (system_call_filter.h). What the kernel does not have is left out with a notice.
//
// Leaves everything as it is if VMHOP_UNCONFINED is in the environment (for debuggers, coverage and
// valgrind), and in sanitizer builds, whose run-time libraries do what is denied here.
void confine_process();

// The second half, once the process knows its directory: it writes and makes files nowhere else
// (Landlock, Linux 5.13), but to RDMA devices. Reading is not restricted: shared libraries, the
// resolver's files and what the system says of its devices are everywhere.
void confine_files(const std::string& directory);

// Their parts, each for good.

// What a capability is needed for later becomes a limit, which grants nothing else: threads' nice
// values (CAP_SYS_NICE) and the memory that is locked for RDMA (CAP_IPC_LOCK). Where the limit
// cannot be raised, that capability stays. For the calling thread and those that it starts.
Status drop_capabilities();
// The calling thread, and those that it starts, write files in `directory` and RDMA devices only,
// and execute none. Needs no_new_privs or CAP_SYS_ADMIN.
Status restrict_writing(const std::string& directory);

}  // namespace vmhop

// What the pager and the exporter may not ask of the kernel.
#pragma once

#include "backend/base/result.h"

namespace vmhop {

// For the whole process and for good: a system call that neither of them has a use for fails with
// EPERM, and is logged by the kernel's audit where that is on. Programs and processes of its own,
// other processes, namespaces and mounts, the kernel's own settings, another identity.
//
// A list of what is denied, because what is needed is not ours to know: the provider library of an
// RDMA adapter, the resolver's plug-ins and the next glibc call what they like, and a call that was
// forgotten would cost a VM. EPERM for the same reason; who breaks in gains nothing by it.
//
// An error where the kernel has no seccomp filters; nothing is denied then.
Status filter_system_calls();

}  // namespace vmhop

// Back to a VM that runs here, after a relocation that was not committed.
#pragma once

#include <chrono>

#include "backend/base/result.h"
#include "cli/qmp_client.h"

namespace vmhop {

enum class ResumeVm { kYes, kLeavePaused };

// Cancels QEMU's migration whatever state it is in, waits until it is over, and sees to it that
// the VM runs (or stays paused, as its user had it). Ok means that QEMU itself said so. Only to be
// called when it is certain that nothing was or will be committed.
Status resume_at_source(QmpClient& qmp, ResumeVm resume, std::chrono::milliseconds timeout);

}  // namespace vmhop

// The commands that do their work and end; each returns vmhop's exit code. The two that are
// supervisors: supervisor.h.
#pragma once

#include "backend/base/result.h"
#include "cli/options.h"

namespace vmhop {

Result<int> keygen(const KeygenOptions& options);
Result<int> relocate(const RelocateOptions& options);
Result<int> status(const StatusOptions& options);
Result<int> drop(const DropOptions& options);
Result<int> resolve(const ResolveOptions& options);
Result<int> devices(const DevicesOptions& options);
// Hidden: ssh starts it for `relocate NAME ssh://HOST`. Returns in two processes.
Result<int> receive_by_ssh(const SshReceiveOptions& options);
Result<int> metrics(const MetricsOptions& options);
Result<int> report(const ReportOptions& options);

}  // namespace vmhop

// `vmhop metrics`: what a monitoring system wants to know of this host's VMs.
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/metrics_server.h"
#include "cli/publish.h"
#include "cli/runtime_dir.h"
#include "cli/vm_metrics.h"

namespace vmhop {
Result<int> metrics(const MetricsOptions& options) {
  VMHOP_ASSIGN(std::string base, runtime_base());
  if (!options.listen.empty()) return serve_metrics(options.listen, base);
  std::string text = host_metrics(base, options.format);
  VMHOP_TRY(print_or_publish(options.output, text));
  return kExitDone;
}

}  // namespace vmhop

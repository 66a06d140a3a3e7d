// `vmhop report`: the last relocation of a VM, to look at.
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/publish.h"
#include "cli/relocation_records.h"
#include "cli/report_page.h"
#include "cli/runtime_dir.h"

namespace vmhop {
Result<int> report(const ReportOptions& options) {
  VMHOP_ASSIGN(std::string base, runtime_base());
  VMHOP_TRY(check_vm_name(base, options.name));
  auto record = load_relocation_record(base, options.name);
  if (!record) {
    return errorf(
        "no relocation of {} is known here: none has been from or to this host since it was "
        "booted, or it lies too far back (a host keeps the latest of {} VMs)",
        options.name, kMaxRelocationRecords);
  }
  std::string text =
      options.json ? record->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"
                   : report_page(*record);
  VMHOP_TRY(print_or_publish(options.output, text));
  return kExitDone;
}

}  // namespace vmhop

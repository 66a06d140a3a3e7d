#include <fmt/format.h>

#include "backend/session/key.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/logging.h"

namespace vmhop {

Result<int> keygen(const KeygenOptions& options) {
  VMHOP_TRY(write_new_key(options.file));
  fmt::print("{}\n", options.file);
  tell_user(
      "A fresh key. Copy it to the other hosts, for example with scp -p, and keep it secret: who "
      "has it can receive your VMs.");
  return kExitDone;
}

}  // namespace vmhop

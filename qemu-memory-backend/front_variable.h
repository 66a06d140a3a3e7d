// The environment variable that configures the preload library; front_handshake.h has its format.
#pragma once

#include <span>
#include <string>

#include "backend/base/result.h"

namespace vmhop {

struct FrontRamFile {
  int fd;          // as QEMU inherits it: sized, not close-on-exec
  std::string id;  // of the memory backend
};

// For a QEMU whose RAM is there and may be exported: discards obey the control page.
Result<std::string> export_front_variable(int control_fd, std::span<const FrontRamFile> ram);

// For a QEMU whose RAM is filled on demand: each region is also registered with userfaultfd and
// offered to the FrontListener at `socket_path` (absolute). Discards are blocked from the start.
Result<std::string> lazy_front_variable(int control_fd, std::span<const FrontRamFile> ram,
                                        const std::string& socket_path);

}  // namespace vmhop

#include "qemu-memory-backend/front_variable.h"

#include <sys/un.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "qemu-memory-backend/front_handshake.h"

namespace vmhop {
namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// QEMU's own rule (id_wellformed).
bool is_qemu_id(std::string_view id) {
  return !id.empty() && is_letter(id.front()) && std::all_of(id.begin(), id.end(), [](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

Result<std::string> front_variable(std::string_view mode, int control_fd,
                                   std::span<const FrontRamFile> ram) {
  if (ram.empty() || ram.size() > VMHOP_FRONT_MAX_REGIONS) {
    return refusedf("a VM with {} memory backends; 1 to {} are possible", ram.size(),
                    VMHOP_FRONT_MAX_REGIONS);
  }
  std::vector<std::string> entries;
  for (const FrontRamFile& file : ram) {
    if (!is_qemu_id(file.id) || file.id.size() >= VMHOP_FRONT_ID_SIZE) {
      return refusedf(
          "'{}' is no id for a memory backend: a letter, then at most {} letters, "
          "digits, '-', '.' and '_'",
          file.id, VMHOP_FRONT_ID_SIZE - 2);
    }
    entries.push_back(fmt::format("{}:{}", file.fd, file.id));
  }
  return fmt::format("v={};mode={};control={};ram={}", VMHOP_FRONT_VERSION, mode, control_fd,
                     fmt::join(entries, ","));
}

}  // namespace

Result<std::string> export_front_variable(int control_fd, std::span<const FrontRamFile> ram) {
  return front_variable("export", control_fd, ram);
}

Result<std::string> lazy_front_variable(int control_fd, std::span<const FrontRamFile> ram,
                                        const std::string& socket_path) {
  if (!socket_path.starts_with('/') || socket_path.size() >= sizeof(sockaddr_un{}.sun_path)) {
    return refusedf("the socket path '{}' is not an absolute path of at most {} bytes", socket_path,
                    sizeof(sockaddr_un{}.sun_path) - 1);
  }
  VMHOP_ASSIGN(std::string variable, front_variable("lazy", control_fd, ram));
  return variable + ";socket=" + socket_path;
}

}  // namespace vmhop

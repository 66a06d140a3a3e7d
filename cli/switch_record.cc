#include "cli/switch_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "backend/base/fd.h"
#include "cli/json_access.h"

namespace vmhop {
namespace {

std::string path_in(const std::string& directory) {
  return directory + "/switch";
}

}  // namespace

Status write_switch_record(const std::string& directory, const SwitchRecord& record) {
  nlohmann::json body = {{"version", 1},
                         {"machine", record.machine},
                         {"qemu_version", record.qemu_version},
                         {"found_in_qemu", record.found_in_qemu},
                         {"was_running", record.was_running},
                         {"plain_data", record.plain_data},
                         {"transport", record.transport},
                         {"credentials", record.credentials},
                         {"arrived", record.arrived}};
  std::string text = body.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return replace_file(path_in(directory), text);
}

Result<std::optional<SwitchRecord>> read_switch_record(const std::string& directory) {
  std::string path = path_in(directory);
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return std::optional<SwitchRecord>();
  VMHOP_ASSIGN(std::string text, read_file(path, kMaxRecord));
  try {
    auto body = nlohmann::json::parse(text);
    if (body.at("version") != 1) {
      return errorf("{} is not of this version of vmhop", path);
    }
    SwitchRecord record;
    record.machine = body.at("machine");
    record.qemu_version = body.at("qemu_version");
    record.found_in_qemu = body.at("found_in_qemu");
    record.was_running = body.at("was_running");
    record.plain_data = body.at("plain_data");
    record.transport = body.at("transport").get<TransportPolicy>();
    record.credentials = body.value("credentials", CredentialsChoice());
    record.arrived = body.at("arrived");
    return std::optional(std::move(record));
  } catch (const nlohmann::json::exception& broken) {
    return errorf("{} is damaged: {}", path, broken.what());
  }
}

void remove_switch_record(const std::string& directory) {
  (void)std::remove(path_in(directory).c_str());
}

}  // namespace vmhop

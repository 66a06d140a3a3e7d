#include "cli/config_file.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>

#include "backend/session/key.h"
#include "cli/transport_options.h"

namespace vmhop {

// Beside the key.
std::string config_path() {
  if (const char* path = std::getenv("VMHOP_CONFIG"); path != nullptr) return path;
  return std::filesystem::path(default_key_path()).parent_path() / "vmhop.conf";
}

Result<HostDefaults> load_config(const std::string& path) {
  HostDefaults defaults;
  defaults.key_path = default_key_path();
  if (::access(path.c_str(), F_OK) != 0) return defaults;
  CLI::App file{"", "vmhop.conf"};
  file.set_help_flag();
  file.allow_config_extras(CLI::config_extras_mode::error);
  file.add_option("--key", defaults.key_path);
  add_transport_options(file, defaults.transport);
  add_paging_option(file, defaults.transport);
  file.set_config("--config", path, "", true);
  try {
    std::vector<std::string> none;
    file.parse(none);
  } catch (const CLI::ParseError& error) {
    return refusedf("{}: {}", path, error.what());
  }
  return defaults;
}

}  // namespace vmhop

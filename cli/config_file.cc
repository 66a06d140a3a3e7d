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

void add_config_options(CLI::App& file, HostDefaults& defaults) {
  file.set_help_flag();
  file.add_option("--key", defaults.key_path, "The key that both hosts share")
      ->type_name("FILE")
      ->capture_default_str();
  file.add_option("--tls-creds", defaults.tls_creds,
                  "A directory of X.509 certificates, in place of the key")
      ->type_name("DIR")
      ->capture_default_str();
  add_transport_options(file, defaults.transport);
  add_memory_options(file, defaults.transport);
  file.add_option_function<std::string>(
          "--log-format",
          [&defaults](const std::string& name) {
            defaults.log_format = log_format_named(name).value_or(LogFormat::kText);
          },
          "How the log is written: text, or a JSON object a line")
      ->check(CLI::IsMember({"text", "json"}).description(""))
      ->type_name("text|json")
      ->default_str("text");
}

Result<HostDefaults> load_config(const std::string& path) {
  HostDefaults defaults;
  defaults.key_path = default_key_path();
  if (::access(path.c_str(), F_OK) != 0) return defaults;
  CLI::App file{"", "vmhop.conf"};
  file.allow_config_extras(CLI::config_extras_mode::error);
  add_config_options(file, defaults);
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

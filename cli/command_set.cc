#include "cli/command_set.h"

#include "cli/exit_codes.h"
#include "cli/helper_process.h"
#include "cli/receive_request.h"

namespace vmhop {
namespace {

constexpr const char* kDescription =
    "Relocates running virtual machines between hosts in milliseconds: a VM stops here, runs on "
    "there at once, and its memory follows on demand.";

}  // namespace

CommandSet::CommandSet(const HostDefaults& host) : app(kDescription, "vmhop"), defaults(host) {
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", std::string("vmhop ") + VMHOP_VERSION);
  app.footer(kExitCodeHelp);
  app.add_option("--log-level", log_level, "What to say on standard error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  log_format = defaults.log_format == LogFormat::kJson ? "json" : "text";
  app.add_option("--log-format", log_format,
                 "How: lines for people, or one JSON object a line (QEMU's own output stays as it "
                 "is)")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  keygen.file = defaults.key_path;
  keygen_command = app.add_subcommand(
      "keygen", "Writes a fresh key, which both hosts must have; never overwrites one");
  keygen_command->add_option("FILE", keygen.file, "Where to")->capture_default_str();
  add_vm_commands();
  add_relocate_command();
  add_status_commands();
  add_monitoring_commands();
  add_emergency_commands();
  // An empty group hides them.
  internal_receive = app.add_subcommand(kReceiveCommand, "")->group("");
  internal_exporter = app.add_subcommand(kExporterCommand, "")->group("");
  internal_pager = app.add_subcommand(kPagerCommand, "")->group("");
}

void CommandSet::add_credentials_options(CLI::App* command, CredentialsChoice& choice) {
  choice.key_path = defaults.key_path;
  choice.tls_creds = defaults.tls_creds;
  auto* key = command->add_option("--key", choice.key_path, "The key that both hosts share")
                  ->type_name("FILE")
                  ->capture_default_str();
  auto* certificates = command
                           ->add_option("--tls-creds", choice.tls_creds,
                                        "A directory of X.509 certificates, in place of the key")
                           ->type_name("DIR")
                           ->capture_default_str();
  key->excludes(certificates);
  // One that is named goes before certificates of the configuration file.
  key->each([&choice](const std::string&) { choice.tls_creds.clear(); });
}

void CommandSet::add_authz_option(CLI::App* command, CredentialsChoice& choice) {
  command
      ->add_option("--tls-authz", choice.tls_names,
                   "Whose certificate a source needs, by host name; may be repeated [anybody's of "
                   "the CA]")
      ->type_name("NAME")
      ->allow_extra_args(false);
}

void CommandSet::add_front_option(CLI::App* command, std::string& front) {
  command
      ->add_option("--front", front,
                   "What hands QEMU's RAM over: its object memory-backend-postcopy, or a library "
                   "that is preloaded into it; auto takes the object where QEMU has it")
      ->check(CLI::IsMember({"auto", "object", "preload"}))
      ->capture_default_str();
}

}  // namespace vmhop

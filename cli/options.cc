#include "cli/options.h"

#include <algorithm>
#include <sstream>

#include "cli/command_set.h"
#include "cli/exit_codes.h"
#include "cli/ssh_destination.h"

namespace vmhop {
namespace {

bool wants_ssh(const SshOptions& options) {
  return !options.maps.empty() || !options.address.empty() || !options.command.empty() ||
         options.remote_vmhop != SshOptions().remote_vmhop;
}

CommandLine wrong_usage(const std::string& message) {
  return {std::nullopt, message + "\nvmhop --help tells more.", kExitUsage};
}

}  // namespace

CommandLine parse_command_line(std::vector<std::string> arguments, const HostDefaults& defaults) {
  auto separator = std::find(arguments.begin(), arguments.end(), "--");
  bool has_qemu = separator != arguments.end();
  std::vector<std::string> qemu(has_qemu ? separator + 1 : separator, arguments.end());
  arguments.erase(separator, arguments.end());

  CommandSet set(defaults);
  try {
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    set.app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return wrong_usage(error.what());
    std::ostringstream text;
    set.app.exit(error, text, text);
    return {std::nullopt, text.str(), kExitDone};
  }
  CommandLine result;
  result.log_level = set.log_level;
  result.log_format = log_format_named(set.log_format).value_or(LogFormat::kText);
  auto chosen = [&](CLI::App* command) { return set.app.got_subcommand(command); };
  bool takes_qemu = chosen(set.run_command) || chosen(set.receive_command);
  if (takes_qemu && qemu.empty()) {
    return wrong_usage("QEMU's command is missing: add -- qemu-system-x86_64 ARGUMENTS");
  }
  if (!takes_qemu && has_qemu) return wrong_usage("this command takes nothing after --");
  if (chosen(set.keygen_command)) result.command = set.keygen;
  if (chosen(set.run_command)) {
    set.run.qemu = qemu;
    result.command = set.run;
  }
  if (chosen(set.receive_command)) {
    set.receive.qemu = qemu;
    result.command = set.receive;
  }
  if (chosen(set.pager_command)) result.command = set.pager;
  if (chosen(set.relocate_command)) {
    if (wants_ssh(set.relocate.ssh) && !is_ssh_destination(set.relocate.destination)) {
      return wrong_usage(
          "--map, --address, --ssh and --remote-vmhop are for a destination ssh://HOST");
    }
    result.command = set.relocate;
  }
  if (chosen(set.status_command)) result.command = set.status;
  if (chosen(set.drop_command)) result.command = set.drop;
  if (chosen(set.resolve_command)) {
    if (set.resolve.run_here == set.resolve.give_back) {
      return wrong_usage("say which: --run-here or --give-back");
    }
    result.command = set.resolve;
  }
  if (chosen(set.recover_command)) result.command = set.recover;
  if (chosen(set.devices_command)) result.command = set.devices;
  if (chosen(set.internal_receive)) result.command = SshReceiveOptions{defaults.transport};
  if (chosen(set.metrics_command)) {
    bool open = set.metrics_format == "openmetrics";
    set.metrics.format = open ? MetricsFormat::kOpenMetrics : MetricsFormat::kPrometheus;
    result.command = set.metrics;
  }
  if (chosen(set.report_command)) result.command = set.report;
  if (chosen(set.internal_exporter)) result.command = HelperOptions{true};
  if (chosen(set.internal_pager)) result.command = HelperOptions{false};
  return result;
}

void look_at_command_line(const HostDefaults& defaults,
                          const std::function<void(const CLI::App&)>& look) {
  CommandSet set(defaults);
  look(set.app);
}

}  // namespace vmhop

// The vmhop program: reads its command line and does what it says.
#include <fmt/format.h>

#include <cstdio>

#include "backend/exporter_process.h"
#include "backend/pager_process.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/logging.h"
#include "cli/options.h"
#include "cli/transport_options.h"

namespace vmhop {
namespace {

constexpr int kHelperSocket = 3;

int run_helper(const HelperOptions& options) {
  // As the supervisor that started it.
  set_up_logging(inherited_logging(options.exporter ? "exporter" : "pager"));
  UniqueFd control(kHelperSocket);
  return options.exporter ? run_exporter_process(std::move(control), make_one_sided)
                          : run_pager_process(std::move(control), make_one_sided);
}

bool supervises(const Command& command) {
  return std::holds_alternative<RunOptions>(command) ||
         std::holds_alternative<ReceiveOptions>(command) ||
         std::holds_alternative<PagerOptions>(command);
}

// Errors of run and receive are told apart from QEMU's own codes.
int exit_code_for(const Command& command, const Error& error) {
  if (supervises(command)) return kExitSupervisor;
  return error.kind() == ErrorKind::kRefused ? kExitRefused : kExitFailed;
}

// The VM that a command is about, if it is one.
std::string vm_of(const Command& command) {
  return std::visit(
      [](const auto& options) -> std::string {
        if constexpr (requires { options.name; }) return options.name;
        return "";
      },
      command);
}

void set_up_logging_for(const Command& command, const std::string& level, LogFormat format) {
  bool long_running = supervises(command) || std::holds_alternative<RecoverOptions>(command);
  set_up_logging({long_running ? "supervisor" : "command", vm_of(command), level, format});
}

Result<int> dispatch(const Command& command) {
  struct Visitor {
    Result<int> operator()(const KeygenOptions& options) { return keygen(options); }
    Result<int> operator()(const RunOptions& options) { return run_vm(options); }
    Result<int> operator()(const ReceiveOptions& options) { return receive_vm(options); }
    Result<int> operator()(const SshReceiveOptions& options) { return receive_by_ssh(options); }
    Result<int> operator()(const PagerOptions& options) { return serve_pager(options); }
    Result<int> operator()(const RelocateOptions& options) { return relocate(options); }
    Result<int> operator()(const StatusOptions& options) { return status(options); }
    Result<int> operator()(const DropOptions& options) { return drop(options); }
    Result<int> operator()(const ResolveOptions& options) { return resolve(options); }
    Result<int> operator()(const RecoverOptions& options) { return recover_vm(options); }
    Result<int> operator()(const DevicesOptions& options) { return devices(options); }
    Result<int> operator()(const MetricsOptions& options) { return metrics(options); }
    Result<int> operator()(const ReportOptions& options) { return report(options); }
    Result<int> operator()(const HelperOptions& options) { return run_helper(options); }
  };
  return std::visit(Visitor{}, command);
}

int vmhop_main(std::vector<std::string> arguments) {
  auto wanted = wanted_log_format(arguments);
  set_up_logging({"command", "", "info", wanted.value_or(LogFormat::kText)});
  auto defaults = load_config(config_path());
  if (!defaults) {
    complain(defaults.error().message());
    return kExitUsage;
  }
  if (!wanted) set_up_logging({"command", "", "info", defaults->log_format});
  CommandLine line = parse_command_line(std::move(arguments), *defaults);
  if (!line.command) {
    if (line.exit_code == kExitDone) {
      fmt::print("{}", line.text);
    } else {
      complain(line.text);
    }
    return line.exit_code;
  }
  if (!std::holds_alternative<HelperOptions>(*line.command)) {
    set_up_logging_for(*line.command, line.log_level, line.log_format);
  }
  auto done = dispatch(*line.command);
  if (done) return *done;
  complain(done.error().message());
  return exit_code_for(*line.command, done.error());
}

}  // namespace
}  // namespace vmhop

int main(int argc, char** argv) {
  return vmhop::vmhop_main(std::vector<std::string>(argv + 1, argv + argc));
}

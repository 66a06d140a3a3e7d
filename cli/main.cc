// The vmhop program: reads its command line and does what it says.
#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>

#include "backend/exporter_process.h"
#include "backend/pager_process.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/options.h"
#include "cli/transport_options.h"

namespace vmhop {
namespace {

// The exporter and the pager inherit the level.
constexpr const char* kLogLevelVariable = "VMHOP_LOG_LEVEL";
constexpr int kHelperSocket = 3;

void set_up_logging(const std::string& name, const std::string& level) {
  auto logger = spdlog::stderr_logger_mt("vmhop");
  logger->set_pattern(name + ": %v");
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

int run_helper(const HelperOptions& options) {
  const char* level = std::getenv(kLogLevelVariable);
  set_up_logging(options.exporter ? "vmhop exporter" : "vmhop pager",
                 level != nullptr ? level : "info");
  UniqueFd control(kHelperSocket);
  return options.exporter ? run_exporter_process(std::move(control), make_one_sided)
                          : run_pager_process(std::move(control), make_one_sided);
}

// Errors of run and receive are told apart from QEMU's own codes.
int exit_code_for(const Command& command, const Error& error) {
  bool supervises = std::holds_alternative<RunOptions>(command) ||
                    std::holds_alternative<ReceiveOptions>(command) ||
                    std::holds_alternative<PagerOptions>(command);
  if (supervises) return kExitSupervisor;
  return error.kind() == ErrorKind::kRefused ? kExitRefused : kExitFailed;
}

Result<int> dispatch(const Command& command) {
  struct Visitor {
    Result<int> operator()(const KeygenOptions& options) { return keygen(options); }
    Result<int> operator()(const RunOptions& options) { return run_vm(options); }
    Result<int> operator()(const ReceiveOptions& options) { return receive_vm(options); }
    Result<int> operator()(const PagerOptions& options) { return serve_pager(options); }
    Result<int> operator()(const RelocateOptions& options) { return relocate(options); }
    Result<int> operator()(const StatusOptions& options) { return status(options); }
    Result<int> operator()(const DropOptions& options) { return drop(options); }
    Result<int> operator()(const ResolveOptions& options) { return resolve(options); }
    Result<int> operator()(const RecoverOptions& options) { return recover_vm(options); }
    Result<int> operator()(const DevicesOptions& options) { return devices(options); }
    Result<int> operator()(const HelperOptions& options) { return run_helper(options); }
  };
  return std::visit(Visitor{}, command);
}

int vmhop_main(std::vector<std::string> arguments) {
  auto defaults = load_config(config_path());
  if (!defaults) {
    fmt::print(stderr, "vmhop: {}\n", defaults.error().message());
    return kExitUsage;
  }
  CommandLine line = parse_command_line(std::move(arguments), *defaults);
  if (!line.command) {
    fmt::print(line.exit_code == kExitDone ? stdout : stderr, "{}", line.text);
    return line.exit_code;
  }
  if (!std::holds_alternative<HelperOptions>(*line.command)) {
    set_up_logging("vmhop", line.log_level);
    ::setenv(kLogLevelVariable, line.log_level.c_str(), 1);
  }
  auto done = dispatch(*line.command);
  if (done) return *done;
  fmt::print(stderr, "vmhop: {}\n", done.error().message());
  return exit_code_for(*line.command, done.error());
}

}  // namespace
}  // namespace vmhop

int main(int argc, char** argv) {
  return vmhop::vmhop_main(std::vector<std::string>(argv + 1, argv + argc));
}

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>

#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/signals.h"
#include "cli/vm_status.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr int kWatchIntervalMs = 1000;
constexpr const char* kHomeAndClear = "\x1b[H\x1b[J";

std::string as_json(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

// What there is to print now; an empty text when the named VM is not there.
std::string look(const std::string& base, const StatusOptions& options) {
  if (!options.name.empty()) {
    auto status = query_vm_status(VmPaths(base, options.name), options.name);
    if (!status) return "";
    return options.json ? as_json(*status) : status_details(*status);
  }
  std::vector<json> statuses;
  for (const std::string& name : list_vm_names(base)) {
    if (auto status = query_vm_status(VmPaths(base, name), name)) statuses.push_back(*status);
  }
  if (options.json) return as_json(statuses);
  if (statuses.empty()) return "No VM runs here.\n";
  return status_table(statuses);
}

Result<int> watch(const std::string& base, const StatusOptions& options) {
  VMHOP_ASSIGN(EndSignals signals, EndSignals::block());
  bool redraw = ::isatty(STDOUT_FILENO) != 0 && !options.json;
  for (;;) {
    std::string text = look(base, options);
    if (text.empty()) {
      fmt::print(stderr, "{} is no longer on this host\n", options.name);
      return kExitDone;
    }
    fmt::print("{}{}", redraw ? kHomeAndClear : "", text);
    if (std::fflush(stdout) != 0) return kExitDone;
    VMHOP_ASSIGN(short ended, wait_fd(signals.fd(), POLLIN, kWatchIntervalMs));
    if (ended != 0) {
      // The terminal has shown "^C" there; what comes next begins a line of its own.
      if (redraw) fmt::print("\n");
      return kExitDone;
    }
  }
}

}  // namespace

Result<int> status(const StatusOptions& options) {
  VMHOP_ASSIGN(std::string base, runtime_base());
  if (!options.name.empty()) VMHOP_TRY(check_vm_name(base, options.name));
  std::string text = look(base, options);
  if (text.empty()) {
    return errorf("there is no VM named {} on this host. `vmhop status` lists them", options.name);
  }
  if (options.watch) return watch(base, options);
  fmt::print("{}", text);
  return kExitDone;
}

}  // namespace vmhop

// vmhop's command line: what each command may be given, and how it is read.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "backend/session/key.h"
#include "cli/config_file.h"
#include "cli/credentials_choice.h"
#include "cli/logging.h"
#include "cli/metrics_text.h"
#include "cli/supervisor.h"

namespace CLI {
class App;
}

namespace vmhop {

struct KeygenOptions {
  std::string file;
};

// Of a destination ssh://[USER@]HOST[:PORT].
struct SshOptions {
  std::vector<std::string> maps;  // OLD=NEW
  std::string address;            // HOST, HOST:PORT or :PORT; empty: as ssh reaches it
  std::string command;            // empty: $VMHOP_SSH, or ssh
  std::string remote_vmhop = "vmhop";
};

struct RelocateOptions {
  std::string name;
  std::string destination;  // HOST:PORT or ssh://[USER@]HOST[:PORT]
  SshOptions ssh;
  CredentialsChoice credentials;
  bool json = false;
  bool plain_data = false;
  TransportPolicy transport;
  bool wait = false;
  bool hold = false;
  std::optional<double> prepare_seconds;  // 30, and one for each GiB of RAM
  double switch_seconds = 10;
};

struct StatusOptions {
  std::string name;  // empty: all
  bool json = false;
  bool watch = false;
};

struct DropOptions {
  std::string name;
  bool yes = false;
};

struct ResolveOptions {
  std::string name;
  bool run_here = false;
  bool give_back = false;
  bool yes = false;
};

struct DevicesOptions {
  bool json = false;
};

struct MetricsOptions {
  MetricsFormat format = MetricsFormat::kOpenMetrics;
  std::string output;  // empty: standard output
  std::string listen;  // [HOST]:PORT; empty: once, and end
};

struct ReportOptions {
  std::string name;
  std::string output;  // empty: standard output
  bool json = false;
};

// The hidden commands that vmhop starts itself with.
struct HelperOptions {
  bool exporter = false;
};

using Command =
    std::variant<KeygenOptions, RunOptions, ReceiveOptions, PagerOptions, RelocateOptions,
                 StatusOptions, DropOptions, ResolveOptions, RecoverOptions, DevicesOptions,
                 MetricsOptions, ReportOptions, HelperOptions, SshReceiveOptions>;

struct CommandLine {
  std::optional<Command> command;  // nothing: print `text`, exit with `exit_code`
  std::string text;                // of an error: without "vmhop: " and the line's end
  int exit_code = 0;
  std::string log_level = "info";
  LogFormat log_format = LogFormat::kText;
};

// `arguments` without the program. Everything after the first "--" is QEMU's. What they leave open
// is as in `defaults`.
CommandLine parse_command_line(std::vector<std::string> arguments,
                               const HostDefaults& defaults = {default_key_path(), {}, {}});

// Shows `look` what parses it, for those who write about it (cli/documents).
void look_at_command_line(const HostDefaults& defaults,
                          const std::function<void(const CLI::App&)>& look);

}  // namespace vmhop

// vmhop's command line: what each command may be given, and how it is read.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "backend/session/key.h"
#include "cli/config_file.h"
#include "cli/supervisor.h"

namespace vmhop {

struct KeygenOptions {
  std::string file;
};

struct RelocateOptions {
  std::string name;
  std::string destination;  // HOST:PORT
  std::string key_path;
  bool json = false;
  bool plain_data = false;
  TransportPolicy transport;
  bool wait = false;
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

// The hidden commands that vmhop starts itself with.
struct HelperOptions {
  bool exporter = false;
};

using Command = std::variant<KeygenOptions, RunOptions, ReceiveOptions, PagerOptions,
                             RelocateOptions, StatusOptions, DropOptions, ResolveOptions,
                             RecoverOptions, DevicesOptions, HelperOptions>;

struct CommandLine {
  std::optional<Command> command;  // nothing: print `text`, exit with `exit_code`
  std::string text;
  int exit_code = 0;
  std::string log_level = "info";
};

// `arguments` without the program. Everything after the first "--" is QEMU's. What they leave open
// is as in `defaults`.
CommandLine parse_command_line(std::vector<std::string> arguments,
                               const HostDefaults& defaults = {default_key_path(), {}});

}  // namespace vmhop

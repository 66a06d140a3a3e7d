// What vmhop's command line is, as text: read from the very CLI11 definitions that parse it, so
// that man pages and completions cannot say anything else.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace vmhop {

struct OptionText {
  std::vector<std::string> names;    // "-h", "--help"; of a positional: "NAME"
  std::string value;                 // what stands for its value; empty for a flag
  std::vector<std::string> choices;  // what may be given; empty: anything. "node:" wants more
  std::string range;                 // "0.1 - 3600", or empty
  std::string description;
  std::string default_text;
  std::vector<std::string> excludes;
  bool positional = false;
  bool required = false;
};

struct CommandText {
  std::string name;
  std::string description;
  std::string footer;
  std::vector<OptionText> positionals;
  std::vector<OptionText> options;
  bool takes_qemu = false;  // "-- QEMU ARGS…" follows
};

struct ProgramText {
  CommandText program;                // its own options
  std::vector<CommandText> commands;  // hidden ones are not among them
};

ProgramText read_program(const CLI::App& app);
CommandText read_command(const CLI::App& app);

}  // namespace vmhop

#include "cli/documents/program_text.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>

namespace vmhop {
namespace {

constexpr std::string_view kQemuFollows = "-- QEMU";
constexpr std::string_view kRange = " in [";

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t end = 0; end != std::string_view::npos;
       text.remove_prefix(std::min(end + 1, text.size()))) {
    end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
  }
  return parts;
}

bool upper(char c) {
  return std::isupper(static_cast<unsigned char>(c)) != 0;
}

// "node:N" is "node:" and whatever the user makes of N.
std::string without_placeholder(const std::string& choice) {
  auto placeholder = std::find_if(choice.begin(), choice.end(), upper);
  return {choice.begin(), placeholder};
}

// CLI11's own names for types say little: --log-level takes a LEVEL.
std::string value_name(const std::string& type, const std::string& option) {
  if (type == "FLOAT" || type == "INT" || type == "UINT") return "NUMBER";
  if (type != "TEXT") return type;
  std::string last = option.substr(option.find_last_of('-') + 1);
  std::transform(last.begin(), last.end(), last.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return last;
}

// A type is "NAME", "one|two|ABC:N", or "NAME:" and what its validators say: "{one,two}",
// "FLOAT in [0.1 - 3600]".
void read_type(const std::string& type, OptionText& text) {
  size_t open = type.find('{');
  size_t close = type.rfind('}');
  size_t range = type.find(kRange);
  if (open != std::string::npos && close != std::string::npos) {
    text.choices = split(std::string_view(type).substr(open + 1, close - open - 1), ',');
  } else if (type.find('|') != std::string::npos) {
    for (const std::string& choice : split(type, '|'))
      text.choices.push_back(without_placeholder(choice));
    text.value = type;
    return;
  } else if (range != std::string::npos) {
    size_t begin = range + kRange.size();
    text.range = type.substr(begin, type.find(']', begin) - begin);
  }
  bool annotated = open != std::string::npos || range != std::string::npos;
  std::string name = annotated ? type.substr(0, type.find(':')) : type;
  text.value = value_name(name, text.names.back());
}

OptionText read_option(const CLI::Option& option) {
  OptionText text;
  text.positional = option.get_positional();
  if (text.positional) {
    text.names = {option.get_name(true)};
  } else {
    for (const std::string& name : option.get_snames())
      text.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames())
      text.names.push_back("--" + name);
  }
  if (option.get_items_expected_max() > 0) read_type(option.get_type_name(), text);
  if (text.positional) text.value = text.names.front();
  text.description = option.get_description();
  text.default_text = option.get_default_str();
  text.required = option.get_required();
  for (const CLI::Option* other : option.get_excludes())
    text.excludes.push_back(other->get_name());
  std::sort(text.excludes.begin(), text.excludes.end());
  return text;
}

}  // namespace

CommandText read_command(const CLI::App& app) {
  CommandText command;
  command.name = app.get_name();
  command.description = app.get_description();
  command.footer = app.get_footer();
  // "Starts a VM: NAME -- QEMU ARGS…" has its usage in it.
  if (command.description.find(kQemuFollows) != std::string::npos) {
    command.takes_qemu = true;
    command.description.resize(
        std::min(command.description.find(": "), command.description.size()));
  }
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;
    OptionText text = read_option(*option);
    (text.positional ? command.positionals : command.options).push_back(std::move(text));
  }
  return command;
}

ProgramText read_program(const CLI::App& app) {
  ProgramText program;
  program.program = read_command(app);
  for (const CLI::App* command :
       app.get_subcommands([](const CLI::App* each) { return !each->get_group().empty(); })) {
    program.commands.push_back(read_command(*command));
  }
  return program;
}

}  // namespace vmhop

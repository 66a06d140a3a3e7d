#include <fmt/format.h>

#include <algorithm>

#include "cli/documents/documents.h"
#include "cli/documents/page_texts.h"
#include "cli/documents/roff.h"

namespace vmhop {
namespace {

std::string joined(const std::vector<std::string>& words, std::string_view separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

bool has_letter(std::string_view text, std::string_view letters) {
  return text.find_first_of(letters) != std::string_view::npos;
}

// Sentences about an option, its own first.
std::string explanation(const OptionText& option) {
  std::string text = option.description;
  auto add = [&](const std::string& sentence) {
    if (!has_letter(std::string_view(text).substr(text.empty() ? 0 : text.size() - 1), ".!?")) {
      text += ".";
    }
    text += " " + sentence;
  };
  // The value's name lists them already where it is "auto|rdma|tcp".
  if (!option.choices.empty() && option.value.find('|') == std::string::npos) {
    add("One of " + joined(option.choices, ", ") + ".");
  }
  if (!option.range.empty()) add("In the range " + option.range + ".");
  if (!option.default_text.empty()) add("The default is " + option.default_text + ".");
  if (!option.excludes.empty()) add("Not together with " + joined(option.excludes, ", ") + ".");
  if (option.required && !option.positional) add("Required.");
  if (!text.ends_with('.')) text += ".";
  return text;
}

void write_options(ManPage& page, const CommandText& command) {
  if (!command.positionals.empty() || command.takes_qemu) page.section("ARGUMENTS");
  for (const OptionText& positional : command.positionals)
    page.item("", positional.names.front(), explanation(positional));
  if (command.takes_qemu) {
    page.item("--", "QEMU ARGS…",
              "QEMU's program and its arguments, passed on as they are, but for its RAM.");
  }
  page.section("OPTIONS");
  for (const OptionText& option : command.options)
    page.item(joined(option.names, ", "), option.value, explanation(option));
}

std::string synopsis_of(const OptionText& option) {
  std::string text =
      option.positional ? roff_italic(option.names.front()) : roff_bold(long_name(option));
  if (!option.positional && !option.value.empty()) text += " " + roff_italic(option.value);
  return option.required ? text : "[" + text + "]";
}

void write_synopsis(ManPage& page, const CommandText& command) {
  page.section("SYNOPSIS");
  std::string line = roff_bold("vmhop " + command.name);
  for (const OptionText& positional : command.positionals)
    line += " " + synopsis_of(positional);
  for (const OptionText& option : command.options)
    line += " " + synopsis_of(option);
  if (command.takes_qemu) line += " " + roff_bold("--") + " " + roff_italic("QEMU ARGS…");
  page.line(line);
}

void write_exit_codes(ManPage& page, const std::vector<ExitCode>& codes) {
  page.section("EXIT STATUS");
  for (const auto& [code, text] : exit_code_texts()) {
    if (std::find(codes.begin(), codes.end(), code) == codes.end()) continue;
    page.item(fmt::to_string(static_cast<int>(code)), "", text);
  }
}

void write_examples(ManPage& page, const std::vector<ExampleText>& examples) {
  if (examples.empty()) return;
  page.section("EXAMPLES");
  for (const ExampleText& example : examples) {
    page.paragraph(example.what);
    page.literal(example.lines);
  }
}

void write_tagged(ManPage& page, std::string_view title, const std::vector<TaggedText>& texts) {
  page.section(title);
  for (const TaggedText& each : texts)
    page.item(each.tag, "", each.text);
}

void write_name(ManPage& page, const std::string& name, const std::string& description) {
  page.section("NAME");
  std::string lower = description;
  // "Moves a VM" follows a dash here; "RDMA" keeps its letters.
  if (lower.size() > 1 && !has_letter(lower.substr(1, 1), "ABCDEFGHIJKLMNOPQRSTUVWXYZ")) {
    lower[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(lower[0])));
  }
  page.line(roff_text(name) + " \\- " + roff_text(lower));
}

Document command_page(const CommandText& command, const std::string& version) {
  std::string name = "vmhop-" + command.name;
  ManPage page(name, 1, version);
  write_name(page, name, command.description);
  write_synopsis(page, command);
  page.section("DESCRIPTION");
  page.paragraph(command.description + ".");
  page.help_text(command.footer);
  write_options(page, command);
  page.paragraph("Options of vmhop(1) itself may be given here, too.");
  write_exit_codes(page, exit_codes_of(command.name));
  if (passes_on_qemus_code(command.name)) {
    page.paragraph("Other codes are QEMU's own. Once the VM has left this host the code is 0.");
  }
  write_examples(page, examples_of(command.name));
  page.section("SEE ALSO");
  page.references(see_also_of(command.name));
  return {"man/" + name + ".1", page.text()};
}

Document program_page(const ProgramText& program, const std::string& version) {
  ManPage page("vmhop", 1, version);
  write_name(page, "vmhop", "relocates running virtual machines between hosts in milliseconds");
  page.section("SYNOPSIS");
  std::string line = roff_bold("vmhop");
  for (const OptionText& option : program.program.options)
    line += " " + synopsis_of(option);
  page.line(line + " " + roff_italic("COMMAND") + " ...");
  page.section("DESCRIPTION");
  page.paragraph(program.program.description);
  page.section("COMMANDS");
  for (const CommandText& command : program.commands) {
    page.item("vmhop-" + command.name + "(1)", "", command.description + ".");
  }
  write_options(page, program.program);
  std::vector<ExitCode> all;
  for (const auto& [code, text] : exit_code_texts())
    all.push_back(code);
  write_exit_codes(page, all);
  page.paragraph("run, receive and pager exit with QEMU's own code, 0 once the VM has left.");
  write_tagged(page, "ENVIRONMENT", environment_texts());
  write_tagged(page, "FILES", file_texts());
  write_examples(page, examples_of(""));
  page.section("SEE ALSO");
  std::vector<std::string> others = {"vmhop.conf(5)"};
  for (const CommandText& command : program.commands)
    others.push_back("vmhop-" + command.name + "(1)");
  others.emplace_back("qemu-system-x86_64(1)");
  page.references(others);
  return {"man/vmhop.1", page.text()};
}

Document config_page(const CommandText& config, const std::string& version) {
  ManPage page("vmhop.conf", 5, version);
  write_name(page, "vmhop.conf", "defaults of vmhop's options on a host");
  page.section("SYNOPSIS");
  page.line(roff_italic("/etc/vmhop/vmhop.conf"));
  page.section("DESCRIPTION");
  page.paragraph(
      "Sets what every vmhop of this host takes where its command line leaves an option out. Of "
      "users other than root it is $XDG_CONFIG_HOME/vmhop/vmhop.conf; the environment's "
      "VMHOP_CONFIG names another file. No file is as good as an empty one.");
  page.paragraph(
      "A line is NAME = VALUE; what follows a # is a comment. A flag's value is true or false. A "
      "name that is not known, and a value that is none, is an error that every command ends "
      "with.");
  page.section("OPTIONS");
  for (const OptionText& option : config.options) {
    std::string value = option.value.empty() ? "true|false" : option.value;
    page.item(long_name(option).substr(2) + " =", value, explanation(option));
  }
  page.section("EXAMPLE");
  page.literal({"rdma-trusted = true", "transport = auto      # auto, rdma, tcp"});
  page.section("SEE ALSO");
  page.references({"vmhop(1)", "vmhop-receive(1)", "vmhop-relocate(1)"});
  return {"man/vmhop.conf.5", page.text()};
}

}  // namespace

std::string long_name(const OptionText& option) {
  auto is_long = [](const std::string& name) { return name.starts_with("--"); };
  auto found = std::find_if(option.names.begin(), option.names.end(), is_long);
  return found == option.names.end() ? option.names.front() : *found;
}

std::vector<Document> man_pages(const ProgramText& program, const CommandText& config,
                                const std::string& version) {
  std::vector<Document> pages = {program_page(program, version), config_page(config, version)};
  for (const CommandText& command : program.commands)
    pages.push_back(command_page(command, version));
  return pages;
}

}  // namespace vmhop

// What man pages say that no definition of an option can: exit codes, examples, files, and what to
// read next.
#pragma once

#include <string>
#include <vector>

#include "cli/exit_codes.h"

namespace vmhop {

struct TaggedText {
  std::string tag;
  std::string text;
};

struct ExampleText {
  std::string what;
  std::vector<std::string> lines;
};

// All that there are.
const std::vector<std::pair<ExitCode, std::string>>& exit_code_texts();
// Which of them a command has; and what more there is to say of it.
std::vector<ExitCode> exit_codes_of(const std::string& command);
// run, receive and pager pass on QEMU's own codes.
bool passes_on_qemus_code(const std::string& command);

// Of a command; of the program itself where `command` is empty.
std::vector<ExampleText> examples_of(const std::string& command);
std::vector<std::string> see_also_of(const std::string& command);

const std::vector<TaggedText>& file_texts();
const std::vector<TaggedText>& environment_texts();

// Whose NAME is one that is not there yet.
bool names_new_vm(const std::string& command);

}  // namespace vmhop

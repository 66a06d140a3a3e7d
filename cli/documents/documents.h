// The documents that vmhop's command line is written up in, as the text of each file.
#pragma once

#include <string>
#include <vector>

#include "cli/documents/program_text.h"

namespace vmhop {

struct Document {
  std::string path;  // "man/vmhop-run.1", below the directory they are written to
  std::string text;
};

// vmhop(1), a page for each command, and vmhop.conf(5).
std::vector<Document> man_pages(const ProgramText& program, const CommandText& config,
                                const std::string& version);
Document bash_completion(const ProgramText& program);
Document zsh_completion(const ProgramText& program);
// A configuration file in which every option is explained and none is set.
Document config_sample(const CommandText& config);

// "--key" of "-k, --key": what an option is spoken of by.
std::string long_name(const OptionText& option);

}  // namespace vmhop

#include <fmt/format.h>

#include "cli/documents/documents.h"

namespace vmhop {

Document config_sample(const CommandText& config) {
  std::string text =
      "# Defaults of vmhop on this host: see vmhop.conf(5). What is commented out here is what\n"
      "# vmhop does without it.\n";
  for (const OptionText& option : config.options) {
    std::string value = option.value.empty() ? "false" : option.default_text;
    std::string comment = option.description;
    if (option.value.find('|') != std::string::npos) comment += ": " + option.value;
    text += fmt::format("\n# {}\n#{} = {}\n", comment, long_name(option).substr(2), value);
  }
  return {"vmhop.conf", text};
}

}  // namespace vmhop

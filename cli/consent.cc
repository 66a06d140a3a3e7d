#include "cli/consent.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "cli/logging.h"

namespace vmhop {

Result<bool> agreed(const std::string& consequence) {
  tell_user(consequence);
  // Who collects JSON from standard error is a program.
  if (::isatty(STDIN_FILENO) == 0 || log_format() == LogFormat::kJson) {
    return refusedf("there is no terminal to ask at; --yes goes ahead without asking");
  }
  fmt::print(stderr, "Type yes to go ahead: ");
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "yes";
}

}  // namespace vmhop

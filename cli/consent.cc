#include "cli/consent.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

namespace vmhop {

Result<bool> agreed(const std::string& consequence) {
  fmt::print(stderr, "{}\n", consequence);
  if (::isatty(STDIN_FILENO) == 0) {
    return refusedf("there is no terminal to ask at; --yes goes ahead without asking");
  }
  fmt::print(stderr, "Type yes to go ahead: ");
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "yes";
}

}  // namespace vmhop

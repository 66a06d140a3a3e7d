// Whether vmhop takes a command line, without doing what it says: parse_command_line WORD…, as
// vmhop is given them. For what the documents show and no test can run.
#include <fmt/format.h>

#include <cstdio>

#include "cli/options.h"
#include "cli/qemu_command.h"

namespace vmhop {
namespace {

int refuse(const std::string& why) {
  fmt::print(stderr, "{}\n", why);
  return 1;
}

int check(std::vector<std::string> words) {
  CommandLine line = parse_command_line(std::move(words));
  if (!line.command) return line.exit_code == 0 ? 0 : refuse(line.text);
  std::vector<std::string> qemu;
  VmRole role = VmRole::kRun;
  if (const auto* run = std::get_if<RunOptions>(&*line.command)) qemu = run->qemu;
  if (const auto* receive = std::get_if<ReceiveOptions>(&*line.command)) {
    qemu = receive->qemu;
    role = VmRole::kReceive;
  }
  // What is left of a QEMU that the document only hints at has no memory yet.
  if (qemu.size() < 2) return 0;
  auto command = QemuCommand::translate(qemu, role, Front::kPreload);
  return command ? 0 : refuse(command.error().message());
}

}  // namespace
}  // namespace vmhop

int main(int argc, char** argv) {
  return vmhop::check(std::vector<std::string>(argv + 1, argv + argc));
}

// vmhop's command line, and the translation of QEMU's. An input has a word a line; the first one is
// the program: vmhop, or else it is a QEMU's command line.
#include "cli/options.h"
#include "cli/qemu_command.h"
#include "cli/qemu_options.h"
#include "tests/fuzz/fuzz.h"

using namespace vmhop;
using fuzz::Input;
using fuzz::require;

namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    // A word of a real command line has no zero in it.
    words.emplace_back(text.substr(0, std::min(end, text.find('\0'))));
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  return words;
}

// The RAM that a translated command line gives QEMU is what vmhop thinks it is.
void check_memory(const QemuCommand& command, const std::vector<std::string>& argv) {
  auto options = split_qemu_arguments(std::span(argv).subspan(1));
  require(options.ok(), "a translated command line can be read");
  std::vector<PropertyList> backends;
  for (const QemuOption& option : *options) {
    if (option.name != "object") continue;
    auto properties = parse_properties(*option.value, "qom-type");
    require(properties.ok(), "an object's properties can be read");
    if (property(*properties, "qom-type").value_or("").starts_with("memory-backend-"))
      backends.push_back(*std::move(properties));
  }
  require(backends.size() == command.regions().size(), "a backend for each region");
  for (size_t i = 0; i < backends.size(); ++i) {
    const RegionSpec& region = command.regions()[i];
    require(property(backends[i], "id") == region.id, "a backend has its region's id");
    auto size = property(backends[i], "size");
    require(size && parse_qemu_size(*size).value() == region.size && region.size > 0 &&
                region.size % 4096 == 0,
            "a backend has its region's size, which is whole pages");
    require(property(backends[i], "share").value_or("on") == "on", "RAM is shared");
  }
}

void translate(const std::vector<std::string>& qemu, VmRole role, Front front) {
  auto command = QemuCommand::translate(qemu, role, front);
  if (!command) {
    require(command.error().kind() == ErrorKind::kRefused, "what cannot be is refused");
    return;
  }
  QemuCommand::Places places{std::vector<int>(command->regions().size(), 7), "/run/front",
                             "/run/lifecycle", "/run/qmp"};
  auto argv = command->argv(places);
  require(argv.front() == qemu.front(), "QEMU's program comes first");
  check_memory(*command, argv);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto words = words_of(Input(data, size).text());
  if (words.empty() || words.front() != "vmhop") {
    for (VmRole role : {VmRole::kRun, VmRole::kReceive}) {
      for (Front front : {Front::kPreload, Front::kObject})
        translate(words, role, front);
    }
    return 0;
  }
  words.erase(words.begin());
  CommandLine line = parse_command_line(std::move(words), {"/etc/vmhop/key", {}});
  require(line.command.has_value() || !line.text.empty(), "a command, or something to say");
  if (!line.command) return 0;
  if (const auto* run = std::get_if<RunOptions>(&*line.command))
    translate(run->qemu, VmRole::kRun, Front::kPreload);
  if (const auto* receive = std::get_if<ReceiveOptions>(&*line.command))
    translate(receive->qemu, VmRole::kReceive, Front::kObject);
  return 0;
}

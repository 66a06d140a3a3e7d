#include "tests/lab/qemu_place.h"

#include <fmt/format.h>

namespace vmhop::lab {
namespace {

std::string chardev(const char* id, const std::string& where) {
  std::string options = fmt::format("socket,id={},server=on,wait=off,", id);
  if (where.starts_with('/')) return options + "path=" + where;
  size_t colon = where.rfind(':');
  return options + fmt::format("host={},port={}", where.substr(0, colon), where.substr(colon + 1));
}

}  // namespace

std::vector<std::string> QemuPlace::qemu_options() const {
  return {"-chardev", chardev("console", console), "-serial", "chardev:console",
          "-chardev", chardev("monitor", monitor), "-qmp",    "chardev:monitor"};
}

QemuPlace place_in(const std::string& directory) {
  return {directory + "/console.sock", directory + "/monitor.sock"};
}

QemuPlace place_at(const std::string& address) {
  return {address + ":7781", address + ":7782"};
}

}  // namespace vmhop::lab

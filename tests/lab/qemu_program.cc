#include "tests/lab/qemu_program.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>

namespace vmhop::lab {

Result<std::string> patched_qemu(const std::string& version) {
  if (version.find('/') != std::string::npos) return version;
  std::string command = fmt::format("{}/ci/qemu {}", VMHOP_LAB_SOURCES, version);
  std::string path(4096, '\0');
  FILE* pipe = ::popen(command.c_str(), "re");
  if (pipe == nullptr) return Error::from_errno("starting " + command, errno);
  bool printed = std::fgets(path.data(), static_cast<int>(path.size()), pipe) != nullptr;
  if (::pclose(pipe) != 0 || !printed) return Error(command + " failed");
  path.resize(path.find('\n'));
  return path;
}

const char* lab_front() {
  return std::getenv("VMHOP_LAB_QEMU") != nullptr ? "object" : "preload";
}

std::string lab_qemu() {
  static const std::string program = [] {
    const char* chosen = std::getenv("VMHOP_LAB_QEMU");
    if (chosen == nullptr) return std::string("qemu-system-x86_64");
    auto path = patched_qemu(chosen);
    if (path) return *path;
    fmt::print(stderr, "VMHOP_LAB_QEMU={}: {}\n", chosen, path.error().message());
    std::abort();
  }();
  return program;
}

}  // namespace vmhop::lab

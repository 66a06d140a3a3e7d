#include "tests/lab/baremetal_guest.h"

#include <fmt/format.h>

namespace vmhop::lab {

std::vector<std::string> BaremetalGuest::qemu_command(const QemuPlace& place) const {
  std::string options = fmt::format("{},accel={}", machine, accel);
  // Nothing that a guest without an operating system needs, and what KVM here has not.
  if (machine == "microvm")
    options += ",rtc=off,pit=off,pic=off,isa-serial=on,auto-kernel-cmdline=off";
  std::vector<std::string> command = {qemu,
                                      "-M",
                                      options,
                                      "-name",
                                      name,
                                      "-m",
                                      fmt::format("{}M", ram_mib),
                                      "-nodefaults",
                                      "-no-user-config",
                                      "-display",
                                      "none",
                                      "-no-reboot",
                                      "-kernel",
                                      kernel,
                                      "-append",
                                      arguments};
  for (const std::string& option : place.qemu_options())
    command.push_back(option);
  if (paused) command.emplace_back("-S");
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

}  // namespace vmhop::lab

#include "tests/lab/baremetal_guest.h"

#include <fmt/format.h>

namespace vmhop::lab {

std::vector<std::string> BaremetalGuest::qemu_command(const QemuPlace& place) const {
  std::string options = fmt::format("{},accel={}", machine, accel);
  // Nothing that a guest without an operating system needs, and what KVM here has not.
  if (machine == "microvm")
    options += ",rtc=off,pit=off,pic=off,isa-serial=on,auto-kernel-cmdline=off";
  std::vector<std::string> command = {"qemu-system-x86_64",
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
                                      arguments,
                                      "-chardev",
                                      "socket,id=console,server=on,wait=off,path=" + place.console,
                                      "-serial",
                                      "chardev:console",
                                      "-qmp",
                                      "unix:" + place.monitor + ",server=on,wait=off"};
  if (paused) command.emplace_back("-S");
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

}  // namespace vmhop::lab

// The bare-metal guest: runs at once, also under a KVM that boots no Linux.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/lab/qemu_place.h"
#include "tests/lab/qemu_program.h"

namespace vmhop::lab {

struct BaremetalGuest {
  std::string kernel;  // baremetal.elf
  std::string accel = "tcg";
  std::string machine = "microvm";
  uint64_t ram_mib = 128;
  std::string arguments;  // baremetal.c lists them
  std::string name = "guest";
  bool paused = false;  // -S
  std::vector<std::string> more = {};
  std::string qemu = lab_qemu();

  std::vector<std::string> qemu_command(const QemuPlace& place) const;
};

}  // namespace vmhop::lab

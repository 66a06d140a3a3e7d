// The Linux guest of ci/guest-image: nginx, a disk being written to, redis, and the witness.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "tests/lab/qemu_place.h"
#include "tests/lab/qemu_program.h"

namespace vmhop::lab {

struct LinuxGuest {
  std::string image;  // the directory that ci/guest-image printed
  uint64_t ram_mib = 512;
  uint64_t witness_mib = 0;  // 0: as much as leaves the rest of the guest enough
  uint64_t redis_mib = 0;    // of values in redis; 0: no redis
  unsigned cpus = 1;
  std::string disk;  // a raw ext4 image, or empty
  std::string tap;   // or empty
  std::string name = "guest";
  bool balloon = false;
  bool paused = false;  // -S
  std::vector<std::string> more = {};
  std::string qemu = lab_qemu();

  std::vector<std::string> qemu_command(const QemuPlace& place) const;
};

// Finds the guest image, building it first if it must be; `sources` is the top of vmhop's tree.
Result<std::string> find_guest_image(const std::string& sources, const std::string& directory);

}  // namespace vmhop::lab

// Turns the QEMU command line that a user gives into the one that vmhop starts: RAM on memory
// files that vmhop holds, monitors for vmhop. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "cli/qemu_refusals.h"

namespace vmhop {

// One memory backend: RAM that moves.
struct RegionSpec {
  std::string id;  // QEMU's RAM block
  uint64_t size = 0;
  bool operator==(const RegionSpec&) const = default;
};

// A checked and translated command line that lacks only what is known when QEMU starts.
class QemuCommand {
 public:
  // `command` starts with QEMU's program. Everything that cannot be relocated is refused
  // (kRefused), as is RAM of any other kind than
  //   -m SIZE                                             (adds the backend "vmhop-ram")
  //   -object memory-backend-postcopy,id=ID,size=SIZE[,share=on]…
  // where one object alone becomes the machine's RAM by itself, and several go to NUMA nodes with
  // -numa node,memdev=ID.
  static Result<QemuCommand> translate(std::span<const std::string> command, VmRole role);

  const std::string& program() const { return program_; }
  const std::vector<RegionSpec>& regions() const { return regions_; }

  // The finished argv: region i on the inherited descriptor `memory_fds[i]`, the monitors' sockets
  // at the two paths.
  std::vector<std::string> argv(std::span<const int> memory_fds, const std::string& lifecycle_qmp,
                                const std::string& relocation_qmp) const;

 private:
  struct Argument {
    std::string text;
    int region = -1;  // its descriptor follows the text
  };

  std::string program_;
  VmRole role_ = VmRole::kRun;
  std::vector<Argument> arguments_;
  std::vector<RegionSpec> regions_;
};

}  // namespace vmhop

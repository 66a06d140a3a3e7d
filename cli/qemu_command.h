// Turns the QEMU command line that a user gives into the one that vmhop starts: RAM that vmhop can
// reach by the front that this QEMU has, monitors for vmhop. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "cli/qemu_front.h"
#include "cli/qemu_refusals.h"

namespace vmhop {

// One memory backend: RAM that moves.
struct RegionSpec {
  std::string id;  // QEMU's RAM block
  uint64_t size = 0;
  bool huge = false;            // hugetlb
  uint64_t huge_page_size = 0;  // 0: the system's default
  bool operator==(const RegionSpec&) const = default;
};

// A checked and translated command line that lacks only what is known when QEMU starts.
class QemuCommand {
 public:
  // `command` starts with QEMU's program. Everything that cannot be relocated is refused
  // (kRefused), as is RAM of any other kind than
  //   -m SIZE                                             (adds the backend "vmhop-ram")
  //   -object memory-backend-postcopy,id=ID,size=SIZE[,share=on][,hugetlb=on[,hugetlbsize=SIZE]]…
  // where one object alone becomes the machine's RAM by itself, and several go to NUMA nodes with
  // -numa node,memdev=ID.
  static Result<QemuCommand> translate(std::span<const std::string> command, VmRole role,
                                       Front front);

  const std::string& program() const { return program_; }
  Front front() const { return front_; }
  const std::vector<RegionSpec>& regions() const { return regions_; }

  struct Places {
    std::vector<int> memory_fds;  // preload: inherited, in the order of regions()
    std::string front_socket;     // object: of a VM that is received
    std::string lifecycle_qmp;    // sockets of the monitors
    std::string relocation_qmp;
  };
  // The finished argv.
  std::vector<std::string> argv(const Places& places) const;

 private:
  struct Argument {
    std::string text;
    int region = -1;  // where its memory is follows the text
  };

  std::string program_;
  VmRole role_ = VmRole::kRun;
  Front front_ = Front::kPreload;
  std::vector<Argument> arguments_;
  std::vector<RegionSpec> regions_;
};

}  // namespace vmhop

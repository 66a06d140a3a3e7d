// A QEMU that vmhop started, and what vmhop holds for it: the memory files of its RAM and the page
// that tells its front whether RAM may be discarded.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "cli/child_process.h"
#include "cli/qemu_command.h"
#include "cli/runtime_dir.h"
#include "qemu-memory-backend/front_control.h"

namespace vmhop {

// The preload library that goes with this program: $VMHOP_PRELOAD_LIBRARY, or beside it in the
// build tree, or where it was installed.
Result<std::string> find_preload_library();

class VmProcess {
 public:
  struct Region {
    RegionSpec spec;
    uint32_t page_size;
    UniqueFd memfd;
  };

  // Starts QEMU for `role`; for kReceive its front offers the regions at paths.front_socket(),
  // where somebody must be listening already.
  static Result<std::shared_ptr<VmProcess>> start(const QemuCommand& command, const VmPaths& paths,
                                                  VmRole role);

  ChildProcess& child() { return *child_; }
  FrontControl& front() { return front_; }
  const std::vector<Region>& regions() const { return regions_; }
  // An error that tells how QEMU exited, if it has.
  Status check_alive();

 private:
  VmProcess(std::vector<Region> regions, FrontControl front, std::shared_ptr<ChildProcess> child)
      : regions_(std::move(regions)), front_(std::move(front)), child_(std::move(child)) {}

  std::vector<Region> regions_;
  FrontControl front_;
  std::shared_ptr<ChildProcess> child_;
};

}  // namespace vmhop

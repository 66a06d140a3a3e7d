// A QEMU, and what vmhop holds for it: the memory files of its RAM, and its front's promise not to
// discard any of it meanwhile.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "cli/child_process.h"
#include "cli/qemu_command.h"
#include "cli/qmp_client.h"
#include "cli/runtime_dir.h"
#include "cli/vm_record.h"
#include "qemu-memory-backend/front_control.h"
#include "qemu-memory-backend/front_listener.h"

namespace vmhop {

// The preload library that goes with this program: $VMHOP_PRELOAD_LIBRARY, or beside it in the
// build tree, or where it was installed.
Result<std::string> find_preload_library();

// One thread at a time, but for child().
class VmProcess {
 public:
  struct Region {
    RegionSpec spec;
    uint32_t page_size =
        0;           // these two: with the object, once QEMU has offered it or find_memory()
    UniqueFd memfd;  // has found it
    UniqueFd front;  // where the object reads how far a region is that arrives
  };

  // Starts QEMU for `role`; for kReceive its front offers the regions at paths.front_socket(),
  // where somebody must be listening already.
  static Result<std::shared_ptr<VmProcess>> start(const QemuCommand& command, const VmPaths& paths,
                                                  VmRole role);
  // One that a supervisor which died had started, with `command`, or had adopted (null): all of it
  // from QEMU's own open files. Its regions are those of `records`.
  static Result<std::shared_ptr<VmProcess>> recover(std::shared_ptr<ChildProcess> qemu,
                                                    const QemuCommand* command,
                                                    std::span<const RegionRecord> records);
  // A QEMU with the object that somebody else has started, and whose regions are offered.
  static std::shared_ptr<VmProcess> adopt(std::shared_ptr<ChildProcess> qemu);

  ChildProcess& child() { return *child_; }
  Front front() const { return control_ ? Front::kPreload : Front::kObject; }
  bool is_ours() const { return ours_; }
  std::vector<Region>& regions() { return regions_; }
  const std::vector<Region>& regions() const { return regions_; }
  // An error that tells how QEMU exited, if it has.
  Status check_alive();
  // The object's memory files, in a QEMU that has got as far as to answer on its monitor.
  Status find_memory();

  // Until allow_discards() nothing of RAM is discarded; none is in progress on return. `qmp` is
  // QEMU's monitor, null when it is lost.
  Status block_discards(QmpClient& qmp);
  void allow_discards(QmpClient* qmp);
  // How many were done since QEMU started, as far as the front counts them.
  uint64_t discards() const { return control_ ? control_->punches() : 0; }

  // Of an arriving VM, in the order of regions().
  void show_progress(std::span<const FrontProgress> progress);
  // Every page is here and nothing is registered any more: the front may let go.
  void show_drained();

 private:
  VmProcess(std::vector<Region> regions, std::optional<FrontControl> control,
            std::shared_ptr<ChildProcess> child, bool ours)
      : regions_(std::move(regions)),
        control_(std::move(control)),
        child_(std::move(child)),
        ours_(ours) {}
  Status set_discard_blocked(QmpClient& qmp, bool blocked);

  std::vector<Region> regions_;
  std::optional<FrontControl> control_;  // the preload library's
  std::shared_ptr<ChildProcess> child_;
  bool ours_;
  std::vector<FrontProgress> shown_;
};

}  // namespace vmhop

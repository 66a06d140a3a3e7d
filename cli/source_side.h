// A running VM as its relocation sees it: the real processes behind RelocationHost.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cli/relocation.h"
#include "cli/runtime_dir.h"
#include "cli/vm_process.h"

namespace vmhop {

// What both sides tell the supervisor; called from their threads.
struct SideNews {
  std::function<void(const nlohmann::json& event)> on_event;
  // A helper was started: somebody must reap it whenever it leaves.
  std::function<void(std::shared_ptr<ChildProcess>)> on_helper;
};

std::vector<RegionRecord> region_records(const VmProcess& vm);

class SourceSide : public RelocationHost {
 public:
  SourceSide(std::string name, VmPaths paths, std::shared_ptr<VmProcess> vm, SideNews news)
      : name_(std::move(name)),
        paths_(std::move(paths)),
        vm_(std::move(vm)),
        news_(std::move(news)) {}

  std::string vm_name() const override { return name_; }
  std::string runtime_directory() const override { return paths_.directory(); }
  std::vector<RegionRecord> regions() const override { return region_records(*vm_); }
  std::vector<int> memory_fds() const override;
  Result<QmpClient> connect_qmp() override;
  Result<Helper> start_exporter() override;
  Status block_discards(QmpClient& qmp) override { return vm_->block_discards(qmp); }
  void allow_discards(QmpClient* qmp) override { vm_->allow_discards(qmp); }
  uint64_t discards() const override { return vm_->discards(); }
  void freeze_qemu() override;
  void thaw_qemu() override;
  void end_qemu() override;
  bool qemu_has_exited() override { return vm_->child().poll().has_value(); }
  bool commit_recorded() const override;
  Result<std::optional<CommitRecord>> commit_record() const override;
  Status forget_commit() override;
  void report(const nlohmann::json& event) override { news_.on_event(event); }

 private:
  std::string name_;
  VmPaths paths_;
  std::shared_ptr<VmProcess> vm_;
  SideNews news_;
};

}  // namespace vmhop

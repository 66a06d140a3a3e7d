// A VM that is to arrive, as its reception sees it: the real processes behind ReceptionHost.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/session/key.h"
#include "cli/reception.h"
#include "cli/runtime_dir.h"
#include "cli/source_side.h"
#include "cli/vm_process.h"
#include "qemu-memory-backend/front_listener.h"

namespace vmhop {

class DestinationSide : public ReceptionHost {
 public:
  DestinationSide(std::string name, VmPaths paths, QemuCommand command, Secret key,
                  UniqueFd listening, TransportPolicy transport, SideNews news,
                  std::function<void(std::shared_ptr<VmProcess>)> on_vm)
      : name_(std::move(name)),
        paths_(std::move(paths)),
        command_(std::move(command)),
        key_(std::move(key)),
        listening_(std::move(listening)),
        transport_(std::move(transport)),
        news_(std::move(news)),
        on_vm_(std::move(on_vm)) {}

  std::string vm_name() const override { return name_; }
  std::string runtime_directory() const override { return paths_.directory(); }
  std::string key() const override { return key_.to_hex(); }
  int listening_socket() const override { return listening_.get(); }
  TransportPolicy transport() const override { return transport_; }
  Result<WaitingVm> start_vm() override;
  Result<Helper> start_pager() override;
  void allow_discards() override { vm_->front().allow_discards(); }
  std::optional<ExitStatus> qemu_exit() override { return vm_->child().poll(); }
  void end_qemu() override;
  void report(const nlohmann::json& event) override { news_.on_event(event); }

  // The VM of the latest attempt; after its thread has ended.
  std::shared_ptr<VmProcess> vm() const { return vm_; }

 private:
  Result<WaitingVm> collect_regions(FrontListener& listener);

  std::string name_;
  VmPaths paths_;
  QemuCommand command_;
  Secret key_;
  UniqueFd listening_;
  TransportPolicy transport_;
  SideNews news_;
  std::function<void(std::shared_ptr<VmProcess>)> on_vm_;
  std::shared_ptr<VmProcess> vm_;
  std::vector<UniqueFd> userfaultfds_;  // vmhop's references: a pager can be started again
};

}  // namespace vmhop

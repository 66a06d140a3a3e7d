// A VM that is to arrive, as its reception sees it: the real processes behind ReceptionHost.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/page_map.h"
#include "backend/session/key_passing.h"
#include "cli/reception.h"
#include "cli/runtime_dir.h"
#include "cli/source_side.h"
#include "cli/vm_process.h"
#include "qemu-memory-backend/front_listener.h"

namespace vmhop {

// The page map of a VM whose supervisor is dead, as its record says what it is of.
Result<PageMap> open_page_map(const VmPaths& paths, const VmRecord& record);

class DestinationSide : public ReceptionHost {
 public:
  // How it came by the QEMU of an attempt, as far as it is known.
  using OnQemu = std::function<void(const ProcessIdentity&, std::vector<RegionRecord>)>;

  // Without a command it takes the QEMU that connects to paths.front_socket(), whoever starts it.
  DestinationSide(std::string name, VmPaths paths, std::optional<QemuCommand> command,
                  Credentials credentials, UniqueFd listening, TransportPolicy transport,
                  SideNews news, OnQemu on_qemu)
      : name_(std::move(name)),
        paths_(std::move(paths)),
        command_(std::move(command)),
        credentials_(std::move(credentials)),
        listening_(std::move(listening)),
        transport_(std::move(transport)),
        news_(std::move(news)),
        on_qemu_(std::move(on_qemu)) {}

  std::string vm_name() const override { return name_; }
  std::string runtime_directory() const override { return paths_.directory(); }
  Result<UniqueFd> key() const override { return pass_credentials(credentials_); }
  int listening_socket() const override { return listening_.get(); }
  TransportPolicy transport() const override { return transport_; }
  Result<WaitingVm> start_vm(const std::function<bool()>& give_up) override;
  bool owns_qemu() const override { return command_.has_value(); }
  Result<Helper> start_pager() override;
  Result<QmpClient> connect_qmp(std::chrono::milliseconds timeout) override;
  void let_front_go() override { vm_->show_drained(); }
  std::optional<ExitStatus> qemu_exit() override { return vm_->child().poll(); }
  void end_qemu() override;
  void report(const nlohmann::json& event) override;

  // For `vmhop recover`, in place of start_vm(): takes what a dead supervisor left, from QEMU's own
  // open files and the records in the runtime directory. Its pager must be gone.
  Result<FoundVm> find_vm(std::shared_ptr<VmProcess> vm, const VmRecord& record);

  // The VM of the latest attempt; after its thread has ended.
  std::shared_ptr<VmProcess> vm() const { return vm_; }

 private:
  // Regions that QEMU offered and that are accepted, in the order of vm_->regions().
  struct Offered {
    uint64_t address = 0;
    UniqueFd userfaultfd;  // vmhop's reference: a pager can be started again
  };

  Result<QmpClient> collect_expected(FrontListener& listener, const std::function<bool()>& give_up);
  Result<QmpClient> collect_all_of_somebodys(FrontListener& listener,
                                             const std::function<bool()>& give_up);
  Result<QmpClient> ask_somebodys();
  Status take_expected(FrontOffer& offer);
  Status take_any(FrontOffer& offer);
  Status accept(FrontOffer& offer, size_t index);
  Result<WaitingVm> waiting_vm(QmpClient qmp);

  std::string name_;
  VmPaths paths_;
  std::optional<QemuCommand> command_;
  Credentials credentials_;
  UniqueFd listening_;
  TransportPolicy transport_;
  SideNews news_;
  OnQemu on_qemu_;
  std::shared_ptr<VmProcess> vm_;
  std::vector<Offered> offered_;
  std::vector<FrontProgress> progress_;  // of the pager that serves
  std::vector<uint64_t> faults_before_;  // by pagers that died
};

}  // namespace vmhop

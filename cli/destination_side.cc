#include "cli/destination_side.h"

#include <algorithm>

#include "cli/source_checks.h"

namespace vmhop {
namespace {

using Clock = QmpClient::Clock;

constexpr std::chrono::seconds kStartTimeout{60};
constexpr std::chrono::milliseconds kLookAround{100};

}  // namespace

Result<WaitingVm> DestinationSide::start_vm() {
  userfaultfds_.clear();
  VMHOP_ASSIGN(FrontListener listener, FrontListener::listen(paths_.front_socket()));
  VMHOP_ASSIGN(vm_, VmProcess::start(command_, paths_, VmRole::kReceive));
  on_vm_(vm_);
  auto waiting = collect_regions(listener);
  if (!waiting) {
    // Its own message, if it had one, is on standard error already.
    vm_->child().kill_and_reap();
    return waiting.error().with("preparing QEMU for the VM");
  }
  return waiting;
}

Result<WaitingVm> DestinationSide::collect_regions(FrontListener& listener) {
  auto deadline = Clock::now() + kStartTimeout;
  std::vector<WaitingVm::Region> regions(vm_->regions().size());
  for (size_t arrived = 0; arrived < regions.size();) {
    auto offer = listener.receive(kLookAround);
    if (!offer) {
      if (offer.error().kind() != ErrorKind::kTimedOut) return offer.error();
      VMHOP_TRY(vm_->check_alive());
      if (Clock::now() >= deadline) {
        return Error("QEMU did not offer its memory in time: is libvmhop-preload.so loaded?",
                     ErrorKind::kTimedOut);
      }
      continue;
    }
    FrontRegion& region = offer->region;
    auto spec = std::find_if(vm_->regions().begin(), vm_->regions().end(),
                             [&](const auto& known) { return known.spec.id == region.id; });
    auto index = static_cast<size_t>(spec - vm_->regions().begin());
    if (spec == vm_->regions().end() || region.pid != vm_->child().identity().pid ||
        region.size != spec->spec.size || regions[index].size != 0) {
      VMHOP_TRY(offer->refuse("this is not a region that vmhop expects"));
      return errorf("QEMU offered the region {} of {} bytes, which is not expected", region.id,
                    region.size);
    }
    regions[index] = {region.id,      region.size,       region.page_size,
                      region.address, spec->memfd.get(), region.userfaultfd.get()};
    userfaultfds_.push_back(std::move(region.userfaultfd));
    VMHOP_TRY(offer->accept());
    ++arrived;
  }
  VMHOP_ASSIGN(QmpClient qmp, QmpClient::connect(paths_.relocation_qmp(), deadline,
                                                 [this] { return vm_->check_alive(); }));
  VMHOP_ASSIGN(std::string machine, query_machine(qmp));
  return WaitingVm{std::move(qmp), machine, std::move(regions), vm_->child().pidfd()};
}

Result<Helper> DestinationSide::start_pager() {
  VMHOP_ASSIGN(StartedHelper started, start_helper(kPagerCommand));
  news_.on_helper(started.child);
  return std::move(started.helper);
}

void DestinationSide::end_qemu() {
  vm_->child().kill_and_reap();
}

}  // namespace vmhop

#include "cli/destination_side.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "cli/json_access.h"
#include "cli/process_files.h"
#include "cli/source_checks.h"

namespace vmhop {
namespace {

using Clock = QmpClient::Clock;
using nlohmann::json;

constexpr std::chrono::seconds kStartTimeout{60};
constexpr std::chrono::milliseconds kLookAround{100};
constexpr std::chrono::seconds kMonitorTimeout{3};
constexpr std::chrono::seconds kComplainEvery{10};

// tmpfs and hugetlbfs both count the blocks of a file.
Result<bool> is_untouched(const UniqueFd& memfd) {
  struct stat info {};
  if (::fstat(memfd.get(), &info) != 0) return Error::from_errno("fstat of RAM", errno);
  return info.st_blocks == 0;
}

}  // namespace

Result<PageMap> open_page_map(const VmPaths& paths, const VmRecord& record) {
  std::vector<RegionInfo> regions;
  for (const RegionRecord& region : record.regions)
    regions.push_back({region.id, region.size, region.page_size});
  UniqueFd file(::open(paths.page_map().c_str(), O_RDWR | O_CLOEXEC));
  if (!file.valid()) return Error::from_errno("opening the page map " + paths.page_map(), errno);
  return PageMap::attach(std::move(file), regions);
}

Result<WaitingVm> DestinationSide::start_vm(const std::function<bool()>& give_up) {
  offered_.clear();
  progress_.clear();
  faults_before_.clear();
  vm_.reset();
  VMHOP_ASSIGN(FrontListener listener, FrontListener::listen(paths_.front_socket()));
  if (command_) {
    VMHOP_ASSIGN(vm_, VmProcess::start(*command_, paths_, VmRole::kReceive));
    on_qemu_(vm_->child().identity(), {});
  }
  auto qmp =
      command_ ? collect_expected(listener, give_up) : collect_all_of_somebodys(listener, give_up);
  auto waiting = qmp ? waiting_vm(std::move(*qmp)) : Result<WaitingVm>(qmp.error());
  if (waiting) {
    auto records = region_records(*vm_);
    for (size_t i = 0; i < records.size(); ++i)
      records[i].address = offered_[i].address;
    on_qemu_(vm_->child().identity(), std::move(records));
    return waiting;
  }
  // Its own message, if it had one, is on standard error already.
  if (vm_ && owns_qemu()) vm_->child().kill_and_reap();
  return waiting.error().with("preparing QEMU for the VM");
}

// As many as the command line has, from the QEMU that was started.
Result<QmpClient> DestinationSide::collect_expected(FrontListener& listener,
                                                    const std::function<bool()>& give_up) {
  offered_.resize(vm_->regions().size());
  auto deadline = Clock::now() + kStartTimeout;
  for (size_t arrived = 0; arrived < offered_.size();) {
    auto offer = listener.receive(kLookAround);
    if (!offer) {
      if (offer.error().kind() != ErrorKind::kTimedOut) return offer.error();
      VMHOP_TRY(vm_->check_alive());
      if (give_up()) return Error("QEMU is no longer needed", ErrorKind::kAborted);
      if (Clock::now() >= deadline) {
        return Error("QEMU did not offer its memory in time", ErrorKind::kTimedOut);
      }
      continue;
    }
    VMHOP_TRY(take_expected(*offer));
    ++arrived;
  }
  return QmpClient::connect(paths_.relocation_qmp(), deadline,
                            [this] { return vm_->check_alive(); });
}

Status DestinationSide::take_expected(FrontOffer& offer) {
  const FrontRegion& region = offer.region;
  auto known = std::find_if(vm_->regions().begin(), vm_->regions().end(),
                            [&](const auto& entry) { return entry.spec.id == region.id; });
  auto index = static_cast<size_t>(known - vm_->regions().begin());
  if (known == vm_->regions().end() || region.pid != vm_->child().identity().pid ||
      region.size != known->spec.size || offered_[index].userfaultfd.valid()) {
    VMHOP_TRY(offer.refuse("this is not a region that vmhop expects"));
    return errorf("QEMU offered the region {} of {} bytes, which is not expected", region.id,
                  region.size);
  }
  return accept(offer, index);
}

// Whatever QEMU comes first, and all that it has: it answers on its monitor only when every object
// of its command line has its answer.
Result<QmpClient> DestinationSide::collect_all_of_somebodys(FrontListener& listener,
                                                            const std::function<bool()>& give_up) {
  auto complain_at = Clock::now() + kComplainEvery;
  while (!give_up()) {
    auto offer = listener.receive(kLookAround);
    if (offer) {
      if (auto taken = take_any(*offer); !taken)
        spdlog::warn("{}: {}", name_, taken.error().message());
      continue;
    }
    if (offer.error().kind() != ErrorKind::kTimedOut) {
      spdlog::warn("{}: {}", name_, offer.error().message());
      continue;
    }
    if (!vm_) continue;
    if (vm_->child().poll()) {
      spdlog::warn("{}: QEMU exited before it was ready; waiting for another", name_);
      vm_.reset();
      offered_.clear();
      continue;
    }
    auto qmp = ask_somebodys();
    if (qmp) return qmp;
    if (qmp.error().kind() == ErrorKind::kRefused) return qmp.error();
    if (Clock::now() >= complain_at) {
      spdlog::warn("{}: QEMU is here, but cannot be used yet: {}", name_, qmp.error().message());
      complain_at = Clock::now() + kComplainEvery;
    }
  }
  return Error("nobody has started QEMU", ErrorKind::kAborted);
}

// The QEMU that has offered memory, if it is ready: both monitors, nothing that runs, no memory
// that is still to be offered.
Result<QmpClient> DestinationSide::ask_somebodys() {
  auto alive = [this] { return vm_->check_alive(); };
  VMHOP_TRY(QmpClient::connect(paths_.lifecycle_qmp(), Clock::now() + kMonitorTimeout, alive));
  VMHOP_ASSIGN(QmpClient qmp,
               QmpClient::connect(paths_.relocation_qmp(), Clock::now() + kMonitorTimeout, alive));
  VMHOP_ASSIGN(json status, qmp.execute("query-status"));
  if (text_of(status, "status") != "inmigrate") {
    return refusedf("QEMU is \"{}\", it does not wait for a VM: start it with -incoming defer -S",
                    text_of(status, "status"));
  }
  VMHOP_ASSIGN(json objects, qmp.execute("qom-list", {{"path", "/objects"}}));
  for (const json& object : objects) {
    if (text_of(object, "type") != "child<memory-backend-postcopy>") continue;
    std::string id = text_of(object, "name");
    auto offered = std::any_of(
        vm_->regions().begin(), vm_->regions().end(),
        [&](const auto& region) { return region.spec.id == id && region.memfd.valid(); });
    if (!offered)
      return errorf("its object {} has not come here: has it pager={}?", id, paths_.front_socket());
  }
  // Whatever its -S says: it must not run before the source has given the VM away.
  VMHOP_TRY(qmp.execute("stop"));
  return qmp;
}

Status DestinationSide::take_any(FrontOffer& offer) {
  const FrontRegion& region = offer.region;
  VMHOP_ASSIGN(bool untouched, is_untouched(region.memfd));
  if (!region.watched || !untouched) {
    std::string why = region.watched ? "a part of its memory is here already"
                                     : "only a QEMU with memory-backend-postcopy can be taken";
    VMHOP_TRY(offer.refuse(why));
    return refusedf("refused the region {} of process {}: {}", region.id, region.pid, why);
  }
  if (vm_ && vm_->child().identity().pid != region.pid) {
    VMHOP_TRY(offer.refuse("another QEMU is here already"));
    return refusedf("refused the region {} of process {}, a second QEMU", region.id, region.pid);
  }
  if (!vm_) {
    VMHOP_ASSIGN(auto qemu, ChildProcess::adopt(region.pid));
    if (!qemu->may_signal()) {
      VMHOP_TRY(
          offer.refuse("vmhop may not end this QEMU if it has to: run both as the same user"));
      return refusedf("refused the QEMU of process {}: this user may not signal it", region.pid);
    }
    vm_ = VmProcess::adopt(std::move(qemu));
    spdlog::info("{}: QEMU is process {}", name_, region.pid);
  }
  auto known = std::find_if(vm_->regions().begin(), vm_->regions().end(),
                            [&](const auto& entry) { return entry.spec.id == region.id; });
  auto index = static_cast<size_t>(known - vm_->regions().begin());
  if (known == vm_->regions().end()) {
    vm_->regions().emplace_back();
    vm_->regions().back().spec.id = region.id;
    vm_->regions().back().spec.size = region.size;
    offered_.emplace_back();
  }
  return accept(offer, index);
}

Status DestinationSide::accept(FrontOffer& offer, size_t index) {
  VmProcess::Region& region = vm_->regions()[index];
  VMHOP_TRY(offer.accept());
  offered_[index] = {offer.region.address, std::move(offer.region.userfaultfd)};
  region.page_size = offer.region.page_size;
  if (offer.region.watched) {
    region.memfd = std::move(offer.region.memfd);
    region.front = offer.take_connection();
  }
  return ok_status();
}

Result<WaitingVm> DestinationSide::waiting_vm(QmpClient qmp) {
  VMHOP_ASSIGN(std::string machine, query_machine(qmp));
  std::vector<WaitingVm::Region> regions;
  for (size_t i = 0; i < offered_.size(); ++i) {
    const VmProcess::Region& region = vm_->regions()[i];
    regions.push_back({region.spec.id, region.spec.size, region.page_size, offered_[i].address,
                       region.memfd.get(), offered_[i].userfaultfd.get()});
  }
  return WaitingVm{std::move(qmp), machine, std::move(regions), vm_->child().pidfd()};
}

Result<FoundVm> DestinationSide::find_vm(std::shared_ptr<VmProcess> vm, const VmRecord& record) {
  vm_ = std::move(vm);
  FoundVm found;
  VMHOP_ASSIGN(auto switched, read_switch_record(paths_.directory()));
  if (!switched) return errorf("{} has no record of its switch", paths_.directory());
  found.record = std::move(*switched);
  found.exit_fd = vm_->child().pidfd();
  VMHOP_ASSIGN(PageMap map, open_page_map(paths_, record));
  found.page_map.reset(::fcntl(map.fd(), F_DUPFD_CLOEXEC, 0));
  if (!found.page_map.valid()) return Error::from_errno("F_DUPFD_CLOEXEC", errno);
  found.state = map.destination_state();
  found.was_running = map.run_state() == RunState::kRunning;
  offered_.clear();
  for (VmProcess::Region& region : vm_->regions()) {
    auto known = std::find_if(record.regions.begin(), record.regions.end(),
                              [&](const auto& entry) { return entry.id == region.spec.id; });
    if (known == record.regions.end() || known->address == 0) {
      return errorf("{}/vm.json does not say where QEMU has its RAM {}", paths_.directory(),
                    region.spec.id);
    }
    region.page_size = known->page_size;
    // Of a drained one nothing is registered any more, and must not be again.
    VMHOP_ASSIGN(UniqueFd userfaultfd,
                 found.state == DestinationState::kDrained
                     ? any_userfaultfd(vm_->child().identity().pid, vm_->child().pidfd())
                     : find_userfaultfd(vm_->child().identity().pid, vm_->child().pidfd(),
                                        known->address, known->size));
    offered_.push_back({known->address, std::move(userfaultfd)});
    found.regions.push_back({region.spec.id, region.spec.size, region.page_size, known->address,
                             region.memfd.get(), offered_.back().userfaultfd.get()});
  }
  return found;
}

Result<QmpClient> DestinationSide::connect_qmp(std::chrono::milliseconds timeout) {
  return QmpClient::connect(paths_.relocation_qmp(), Clock::now() + timeout,
                            [this] { return vm_->check_alive(); });
}

Result<Helper> DestinationSide::start_pager() {
  faults_before_.resize(offered_.size());
  for (size_t i = 0; i < progress_.size(); ++i)
    faults_before_[i] = progress_[i].faults;
  VMHOP_ASSIGN(StartedHelper started, start_helper(kPagerCommand));
  news_.on_helper(started.child);
  return std::move(started.helper);
}

void DestinationSide::end_qemu() {
  vm_->child().kill_and_reap();
}

// QEMU's front shows how far each region is.
void DestinationSide::report(const json& event) {
  news_.on_event(event);
  auto regions = event.find("regions");
  if (regions == event.end() || regions->size() != faults_before_.size()) return;
  progress_.resize(regions->size());
  for (size_t i = 0; i < progress_.size(); ++i) {
    progress_[i] = {number_of((*regions)[i], "resident"),
                    number_of((*regions)[i], "faults") + faults_before_[i], false};
  }
  vm_->show_progress(progress_);
}

}  // namespace vmhop

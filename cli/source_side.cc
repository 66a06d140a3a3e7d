#include "cli/source_side.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <unistd.h>

#include "backend/commit_record.h"

namespace vmhop {
namespace {

constexpr std::chrono::seconds kConnectTimeout{5};

}  // namespace

std::vector<RegionRecord> region_records(const VmProcess& vm) {
  std::vector<RegionRecord> records;
  for (const VmProcess::Region& region : vm.regions())
    records.push_back({region.spec.id, region.spec.size, region.page_size, 0});
  return records;
}

std::vector<int> SourceSide::memory_fds() const {
  std::vector<int> fds;
  for (const VmProcess::Region& region : vm_->regions())
    fds.push_back(region.memfd.get());
  return fds;
}

Result<QmpClient> SourceSide::connect_qmp() {
  return QmpClient::connect(paths_.relocation_qmp(), QmpClient::Clock::now() + kConnectTimeout,
                            [this] { return vm_->check_alive(); });
}

Result<Helper> SourceSide::start_exporter() {
  VMHOP_ASSIGN(StartedHelper started, start_helper(kExporterCommand));
  news_.on_helper(started.child);
  return std::move(started.helper);
}

void SourceSide::freeze_qemu() {
  vm_->child().signal(SIGSTOP);
}

void SourceSide::thaw_qemu() {
  vm_->child().signal(SIGCONT);
}

void SourceSide::end_qemu() {
  vm_->child().kill_and_reap();
}

// A record that cannot be read counts as one: rather no VM than two.
bool SourceSide::commit_recorded() const {
  return ::access(paths_.commit_record().c_str(), F_OK) == 0;
}

Result<std::optional<CommitRecord>> SourceSide::commit_record() const {
  return read_commit_record(paths_.directory());
}

Status SourceSide::forget_commit() {
  return remove_commit_record(paths_.directory());
}

}  // namespace vmhop

#include "cli/vm_process.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <spdlog/spdlog.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "backend/base/ram_file.h"
#include "cli/process_files.h"
#include "qemu-memory-backend/front_variable.h"

namespace vmhop {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kPunchTimeout{5};
// For a front to read that it is drained: it does at once, unless its QEMU is stopped.
constexpr std::chrono::seconds kTellTimeout{2};
constexpr std::chrono::milliseconds kTellAgain{20};

Result<uint32_t> page_size_of(const UniqueFd& memfd) {
  struct statfs info {};
  if (::fstatfs(memfd.get(), &info) != 0) return Error::from_errno("fstatfs of RAM", errno);
  return info.f_type == HUGETLBFS_MAGIC ? static_cast<uint32_t>(info.f_bsize)
                                        : static_cast<uint32_t>(::sysconf(_SC_PAGESIZE));
}

// QEMU would only say that it cannot allocate memory.
Status check_huge_pages(const RegionSpec& spec, uint64_t page_size) {
  std::string path =
      fmt::format("/sys/kernel/mm/hugepages/hugepages-{}kB/free_hugepages", page_size >> 10);
  auto text = read_file(path, 64);
  if (!text) return ok_status();
  uint64_t free = std::strtoull(text->c_str(), nullptr, 10);
  uint64_t needed = spec.size / page_size;
  if (spec.size % page_size == 0 && free >= needed) return ok_status();
  if (spec.size % page_size != 0) {
    return refusedf("RAM {}: {} bytes are not whole pages of {} KiB", spec.id, spec.size,
                    page_size >> 10);
  }
  return refusedf(
      "RAM {}: {} huge pages of {} KiB are needed and {} are free. Reserve more "
      "(sysctl vm.nr_hugepages=…), or leave hugetlb out",
      spec.id, needed, page_size >> 10, free);
}

Result<VmProcess::Region> make_region(const RegionSpec& spec) {
  VmProcess::Region region;
  region.spec = spec;
  std::string name = "vmhop-" + spec.id;
  if (spec.huge) {
    VMHOP_ASSIGN(region.memfd, create_huge_memfd(name, spec.size, spec.huge_page_size));
  } else {
    VMHOP_ASSIGN(region.memfd, create_ram_file(name, spec.size));
  }
  VMHOP_ASSIGN(region.page_size, page_size_of(region.memfd));
  if (spec.huge) VMHOP_TRY(check_huge_pages(spec, region.page_size));
  return region;
}

std::string preload_list(const std::string& library) {
  const char* others = std::getenv("LD_PRELOAD");
  return others != nullptr && *others != '\0' ? library + ":" + others : library;
}

}  // namespace

Result<std::string> find_preload_library() {
  std::string found;
  if (const char* chosen = std::getenv("VMHOP_PRELOAD_LIBRARY"); chosen != nullptr) {
    if (!fs::exists(chosen)) {
      return refusedf("VMHOP_PRELOAD_LIBRARY is '{}', which is not there", chosen);
    }
    found = fs::absolute(chosen).string();
  } else {
    std::error_code ignored;
    fs::path here = fs::read_symlink("/proc/self/exe", ignored).parent_path();
    for (const char* place : {"../qemu-memory-backend", VMHOP_LIBRARY_FROM_BIN}) {
      fs::path candidate = fs::weakly_canonical(here / place / "libvmhop-preload.so", ignored);
      if (found.empty() && fs::exists(candidate, ignored)) found = candidate.string();
    }
  }
  if (found.empty()) {
    return refusedf(
        "libvmhop-preload.so, which a stock QEMU needs, is not where this program was built or "
        "installed; name it in VMHOP_PRELOAD_LIBRARY");
  }
  // The loader splits LD_PRELOAD at both, and knows no quoting.
  if (found.find_first_of(" :") != std::string::npos) {
    return refusedf("the path '{}' has a space or colon, which the loader cannot handle", found);
  }
  return found;
}

Result<std::shared_ptr<VmProcess>> VmProcess::start(const QemuCommand& command,
                                                    const VmPaths& paths, VmRole role) {
  std::vector<Region> regions;
  std::optional<FrontControl> control;
  ChildSpec spec;
  QemuCommand::Places places{
      {}, paths.front_socket(), paths.lifecycle_qmp(), paths.relocation_qmp()};
  if (command.front() == Front::kObject) {
    for (const RegionSpec& region : command.regions()) {
      regions.emplace_back();
      regions.back().spec = region;
    }
  } else {
    VMHOP_ASSIGN(std::string library, find_preload_library());
    VMHOP_ASSIGN(control, FrontControl::create());
    std::vector<FrontRamFile> ram;
    for (const RegionSpec& region : command.regions()) {
      VMHOP_ASSIGN(Region made, make_region(region));
      places.memory_fds.push_back(made.memfd.get());
      ram.push_back({made.memfd.get(), region.id});
      regions.push_back(std::move(made));
    }
    auto variable = role == VmRole::kReceive
                        ? lazy_front_variable(control->fd().get(), ram, paths.front_socket())
                        : export_front_variable(control->fd().get(), ram);
    if (!variable) return variable.error();
    spec.environment = {{"LD_PRELOAD", preload_list(library)}, {VMHOP_FRONT_VARIABLE, *variable}};
    spec.inherited = places.memory_fds;
    spec.inherited.push_back(control->fd().get());
  }
  spec.program = command.program();
  spec.argv = command.argv(places);
  VMHOP_ASSIGN(std::shared_ptr<ChildProcess> child, ChildProcess::spawn(spec));
  return std::shared_ptr<VmProcess>(
      new VmProcess(std::move(regions), std::move(control), std::move(child), true));
}

std::shared_ptr<VmProcess> VmProcess::adopt(std::shared_ptr<ChildProcess> qemu) {
  return std::shared_ptr<VmProcess>(new VmProcess({}, std::nullopt, std::move(qemu), false));
}

Result<std::shared_ptr<VmProcess>> VmProcess::recover(std::shared_ptr<ChildProcess> qemu,
                                                      const QemuCommand* command,
                                                      std::span<const RegionRecord> records) {
  std::vector<Region> regions;
  for (const RegionRecord& record : records) {
    regions.emplace_back();
    regions.back().spec.id = record.id;
    regions.back().spec.size = record.size;
    regions.back().page_size = record.page_size;
  }
  bool preloaded = command != nullptr && command->front() == Front::kPreload;
  std::optional<FrontControl> control;
  if (preloaded) {
    auto copy = [&](const std::string& name) -> Result<UniqueFd> {
      VMHOP_ASSIGN(
          auto files, list_process_files(qemu->identity().pid, [&](const std::string& target) {
            return target == "/" + name + " (deleted)" || target == "/memfd:" + name + " (deleted)";
          }));
      if (files.empty()) return errorf("QEMU has no file named {}", name);
      return copy_process_file(qemu->pidfd(), files.front().number);
    };
    for (Region& region : regions) {
      VMHOP_ASSIGN(region.memfd, copy("vmhop-" + region.spec.id));
    }
    VMHOP_ASSIGN(UniqueFd page, copy(kFrontControlName));
    VMHOP_ASSIGN(control, FrontControl::attach(std::move(page)));
  }
  bool ours = command != nullptr;
  std::shared_ptr<VmProcess> vm(
      new VmProcess(std::move(regions), std::move(control), std::move(qemu), ours));
  VMHOP_TRY(vm->find_memory());
  return vm;
}

Status VmProcess::check_alive() {
  if (auto status = child_->poll()) {
    return Error("QEMU " + status->describe() + " before the VM was up", ErrorKind::kClosed);
  }
  return ok_status();
}

// By the names that the object gives them.
Status VmProcess::find_memory() {
  for (Region& region : regions_) {
    if (region.memfd.valid()) continue;
    std::string name = fmt::format("/memfd:memory-backend-postcopy-{} (deleted)", region.spec.id);
    VMHOP_ASSIGN(auto files,
                 list_process_files(child_->identity().pid,
                                    [&](const std::string& target) { return target == name; }));
    if (files.empty()) return errorf("QEMU has no memory file for {}", region.spec.id);
    std::string path = fmt::format("/proc/{}/fd/{}", child_->identity().pid, files.front().number);
    region.memfd.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!region.memfd.valid()) return Error::from_errno("opening RAM " + region.spec.id, errno);
    VMHOP_ASSIGN(region.page_size, page_size_of(region.memfd));
  }
  return ok_status();
}

Status VmProcess::block_discards(QmpClient& qmp) {
  if (control_) return control_->block_discards(kPunchTimeout);
  return set_discard_blocked(qmp, true);
}

void VmProcess::allow_discards(QmpClient* qmp) {
  if (control_) return control_->allow_discards();
  if (qmp == nullptr) return;
  if (auto allowed = set_discard_blocked(*qmp, false); !allowed) {
    spdlog::warn("RAM cannot be discarded any more: {}", allowed.error().message());
  }
}

// QEMU discards under the lock that it answers under, so none is in progress when it has.
Status VmProcess::set_discard_blocked(QmpClient& qmp, bool blocked) {
  for (const Region& region : regions_) {
    auto done = qmp.execute("qom-set", {{"path", "/objects/" + region.spec.id},
                                        {"property", "discard-blocked"},
                                        {"value", blocked}});
    if (!done) return done.error().with("blocking discards of RAM " + region.spec.id);
  }
  return ok_status();
}

// What a front has not read yet is soon out of date.
void VmProcess::show_progress(std::span<const FrontProgress> progress) {
  shown_.assign(progress.begin(), progress.end());
  shown_.resize(regions_.size());
  for (size_t i = 0; i < regions_.size(); ++i) {
    if (regions_[i].front.valid()) (void)send_front_progress(regions_[i].front, shown_[i]);
  }
}

void VmProcess::show_drained() {
  if (control_) control_->allow_discards();
  shown_.resize(regions_.size());
  auto deadline = std::chrono::steady_clock::now() + kTellTimeout;
  for (size_t i = 0; i < regions_.size(); ++i) {
    shown_[i].drained = true;
    while (regions_[i].front.valid()) {
      auto told = send_front_progress(regions_[i].front, shown_[i]);
      if (told) break;
      if (told.error().kind() != ErrorKind::kTimedOut ||
          std::chrono::steady_clock::now() >= deadline) {
        spdlog::warn("QEMU could not be told that RAM {} is drained: {}", regions_[i].spec.id,
                     told.error().message());
        break;
      }
      std::this_thread::sleep_for(kTellAgain);
    }
  }
}

}  // namespace vmhop

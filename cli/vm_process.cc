#include "cli/vm_process.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "qemu-memory-backend/front_variable.h"

namespace vmhop {
namespace {

namespace fs = std::filesystem;

Result<std::vector<VmProcess::Region>> make_regions(const std::vector<RegionSpec>& specs) {
  std::vector<VmProcess::Region> regions;
  for (const RegionSpec& spec : specs) {
    VMHOP_ASSIGN(UniqueFd memfd, create_memfd("vmhop-" + spec.id, spec.size));
    regions.push_back({spec, static_cast<uint32_t>(::sysconf(_SC_PAGESIZE)), std::move(memfd)});
  }
  return regions;
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
  VMHOP_ASSIGN(std::string library, find_preload_library());
  VMHOP_ASSIGN(std::vector<Region> regions, make_regions(command.regions()));
  VMHOP_ASSIGN(FrontControl front, FrontControl::create());

  std::vector<int> memory_fds;
  std::vector<FrontRamFile> ram;
  for (const Region& region : regions) {
    memory_fds.push_back(region.memfd.get());
    ram.push_back({region.memfd.get(), region.spec.id});
  }
  auto variable = role == VmRole::kReceive
                      ? lazy_front_variable(front.fd().get(), ram, paths.front_socket())
                      : export_front_variable(front.fd().get(), ram);
  if (!variable) return variable.error();

  ChildSpec spec;
  spec.program = command.program();
  spec.argv = command.argv(memory_fds, paths.lifecycle_qmp(), paths.relocation_qmp());
  spec.environment = {{"LD_PRELOAD", preload_list(library)}, {VMHOP_FRONT_VARIABLE, *variable}};
  spec.inherited = memory_fds;
  spec.inherited.push_back(front.fd().get());
  VMHOP_ASSIGN(std::shared_ptr<ChildProcess> child, ChildProcess::spawn(spec));
  return std::shared_ptr<VmProcess>(
      new VmProcess(std::move(regions), std::move(front), std::move(child)));
}

Status VmProcess::check_alive() {
  if (auto status = child_->poll()) {
    return Error("QEMU " + status->describe() + " before the VM was up", ErrorKind::kClosed);
  }
  return ok_status();
}

}  // namespace vmhop

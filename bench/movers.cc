#include "bench/movers.h"

namespace vmhop::bench {

const std::vector<std::string>& all_modes() {
  static const std::vector<std::string> modes = {"vmhop", "precopy", "postcopy", "preempt"};
  return modes;
}

std::unique_ptr<Mover> make_mover(const std::string& mode, const lab::VmhopHost& source,
                                  const lab::VmhopHost& destination, uint64_t ram_mib) {
  if (mode == "vmhop") return make_vmhop_mover(source, destination);
  QemuMode qemu = mode == "precopy"    ? QemuMode::kPrecopy
                  : mode == "postcopy" ? QemuMode::kPostcopy
                                       : QemuMode::kPreempt;
  return make_qemu_mover(qemu, source, destination, ram_mib);
}

}  // namespace vmhop::bench

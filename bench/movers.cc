#include "bench/movers.h"

namespace vmhop::bench {

const std::vector<std::string>& all_modes() {
  static const std::vector<std::string> modes = {"vmhop", "precopy", "postcopy", "preempt"};
  return modes;
}

const std::vector<std::string>& encrypted_modes() {
  static const std::vector<std::string> modes = {"vmhop-tls", "precopy-tls", "postcopy-tls",
                                                 "preempt-tls"};
  return modes;
}

std::unique_ptr<Mover> make_mover(const std::string& mode, const lab::VmhopHost& source,
                                  const lab::VmhopHost& destination, uint64_t ram_mib) {
  std::string base = base_mode(mode);
  PageData data = is_encrypted(mode) ? PageData::kEncrypted : PageData::kPlain;
  if (base == "vmhop") return make_vmhop_mover(data, source, destination);
  QemuMode qemu = base == "precopy"    ? QemuMode::kPrecopy
                  : base == "postcopy" ? QemuMode::kPostcopy
                                       : QemuMode::kPreempt;
  return make_qemu_mover(qemu, data, source, destination, ram_mib);
}

}  // namespace vmhop::bench

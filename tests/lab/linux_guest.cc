#include "tests/lab/linux_guest.h"

#include <algorithm>

#include "tests/lab/network.h"
#include "tests/lab/process.h"

namespace vmhop::lab {
namespace {

// Kernel, initramfs (in RAM, as a tmpfs), nginx and page tables.
constexpr uint64_t kRestOfGuestMib = 160;

void append(std::vector<std::string>& command, std::initializer_list<std::string> more) {
  command.insert(command.end(), more);
}

}  // namespace

std::vector<std::string> LinuxGuest::qemu_command(const QemuPlace& place) const {
  uint64_t watched = witness_mib;
  if (watched == 0) watched = ram_mib > kRestOfGuestMib ? ram_mib - kRestOfGuestMib : ram_mib / 2;
  auto base = read_file(image + "/cmdline", 4096);
  std::string line = base ? *base : std::string();
  line.erase(std::find(line.begin(), line.end(), '\n'), line.end());
  line += fmt::format(" vmhop.witness_mib={} vmhop.smp={}", watched, std::max(1U, cpus));
  if (redis_mib > 0) line += fmt::format(" vmhop.redis={}", redis_mib);
  if (!tap.empty()) line += fmt::format(" vmhop.ip={}/24", Network::kGuestAddress);

  std::vector<std::string> command = {qemu, "-M", "q35,accel=tcg"};
  append(command, {"-name", name, "-m", fmt::format("{}M", ram_mib), "-smp", fmt::to_string(cpus)});
  append(command, {"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"});
  append(command, {"-kernel", image + "/vmlinuz", "-initrd", image + "/initramfs"});
  append(command, {"-append", line});
  for (const std::string& option : place.qemu_options())
    command.push_back(option);
  if (!tap.empty()) {
    append(command, {"-netdev", "tap,id=net,script=no,downscript=no,ifname=" + tap});
    append(command, {"-device", "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:77:00:01"});
  }
  if (!disk.empty()) {
    append(command, {"-drive", "if=none,id=disk,format=raw,cache=none,file=" + disk});
    append(command, {"-device", "virtio-blk-pci,drive=disk"});
  }
  if (balloon) append(command, {"-device", "virtio-balloon-pci,id=balloon"});
  if (paused) command.emplace_back("-S");
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

Result<std::string> find_guest_image(const std::string& sources, const std::string& directory) {
  VMHOP_ASSIGN(std::string printed, run_tool(directory, {sources + "/ci/guest-image"}));
  while (!printed.empty() && printed.back() == '\n')
    printed.pop_back();
  return printed;
}

}  // namespace vmhop::lab

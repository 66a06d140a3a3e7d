#include "cli/qemu_refusals.h"

#include <array>

namespace vmhop {
namespace {

struct Refusal {
  const char* option;
  const char* reason;
};

// Refused whatever their value.
constexpr std::array kAlways = {
    Refusal{"mem-path",
            "RAM is a shared memory file of vmhop's own. Leave -mem-path out; the size is -m's"},
    Refusal{"mem-prealloc",
            "it touches all of RAM before the pages have arrived. Leave -mem-prealloc out"},
    Refusal{"incoming", "vmhop itself receives VMs: use `vmhop receive NAME --listen [HOST]:PORT`"},
    Refusal{"daemonize",
            "vmhop watches QEMU as its child. Leave it out and put `vmhop` itself in the "
            "background, or into a service"},
    Refusal{"readconfig",
            "options in a file cannot be checked. Give them on the command line instead"},
    Refusal{"snapshot",
            "what the guest writes would go to a temporary file on this host that does not move "
            "with it. Leave -snapshot out, or use an overlay image that both hosts can reach"},
    Refusal{"xen-attach", "a Xen domain's memory is not QEMU's. Use -accel kvm or tcg"},
};

// Refused for a VM that arrives.
constexpr std::array kReceiving = {
    Refusal{"loadvm", "the VM's state comes from the source. Leave -loadvm out"},
    Refusal{"preconfig", "the VM's state comes from the source. Leave -preconfig out"},
};

constexpr const char* kPinned =
    "it pins all of the VM's memory as it is attached, so pages cannot follow on demand. Use an "
    "emulated device (virtio-net, virtio-blk), or unplug it before relocating";
constexpr const char* kOtherProcess =
    "it maps the VM's memory in another process, which would see zeros for pages that have not "
    "arrived. Use QEMU's own virtio device, or vhost in the kernel (vhost=on)";

bool starts_with_any(const std::string& text, std::initializer_list<const char*> prefixes) {
  for (const char* prefix : prefixes) {
    if (text.starts_with(prefix)) return true;
  }
  return false;
}

Error refuse(const std::string& what, const char* reason) {
  return refusedf("{} cannot be relocated: {}", what, reason);
}

Status check_device(const QemuOption& option) {
  VMHOP_ASSIGN(PropertyList device, parse_properties(*option.value, "driver"));
  std::string driver = property(device, "driver").value_or("");
  std::string what = "-device " + driver;
  if (driver.starts_with("vfio-")) return refuse(what, kPinned);
  if (starts_with_any(driver, {"vhost-user-", "vhost-vdpa-"})) return refuse(what, kOtherProcess);
  if (driver == "loader" && property(device, "data")) {
    return refuse(what + ",data=",
                  "it writes to RAM at every reset, at the destination too, before the page has "
                  "arrived. Load a file (file=) instead");
  }
  return ok_status();
}

Status check_network(const QemuOption& option) {
  VMHOP_ASSIGN(PropertyList netdev, parse_properties(*option.value, "type"));
  std::string type = property(netdev, "type").value_or("");
  if (type == "vhost-user") return refuse("-" + option.name + " vhost-user", kOtherProcess);
  if (type == "vhost-vdpa") return refuse("-" + option.name + " vhost-vdpa", kPinned);
  return ok_status();
}

Status check_drive(const QemuOption& option) {
  VMHOP_ASSIGN(PropertyList drive, parse_properties(*option.value, "file"));
  if (is_on(property(drive, "snapshot"))) {
    return refuse("-drive snapshot=on",
                  "what the guest writes would go to a temporary file on this host that does not "
                  "move with it. Use an overlay image that both hosts can reach");
  }
  return ok_status();
}

Status check_machine(const QemuOption& option) {
  VMHOP_ASSIGN(PropertyList machine, parse_properties(*option.value, "type"));
  for (const char* key : {"memory-encryption", "confidential-guest-support"}) {
    if (property(machine, key)) {
      return refuse(fmt::format("-machine {}=", key),
                    "the memory of an encrypted guest can neither be read nor be filled from "
                    "outside. Leave it out");
    }
  }
  for (const char* key : {"memory.size", "memory.max-size", "memory.slots"}) {
    if (property(machine, key)) {
      return refusedf("-machine {}= is not understood by vmhop; use -m", key);
    }
  }
  return ok_status();
}

Status check_overcommit(const QemuOption& option) {
  VMHOP_ASSIGN(PropertyList overcommit, parse_properties(*option.value, ""));
  auto lock = property(overcommit, "mem-lock");
  if (lock && *lock != "off" && *lock != "no" && *lock != "false" && *lock != "n") {
    return refuse("-overcommit mem-lock=" + *lock,
                  "locking touches all of RAM before the pages have arrived. Leave mem-lock out");
  }
  return ok_status();
}

Status check_option(const QemuOption& option) {
  if (option.name == "device") return check_device(option);
  if (option.name == "netdev" || option.name == "nic" || option.name == "net") {
    return check_network(option);
  }
  if (option.name == "drive") return check_drive(option);
  if (option.name == "machine" || option.name == "M") return check_machine(option);
  if (option.name == "overcommit") return check_overcommit(option);
  return ok_status();
}

}  // namespace

Status check_relocatable(std::span<const QemuOption> options, VmRole role) {
  for (const QemuOption& option : options) {
    for (const Refusal& refusal : kAlways) {
      if (option.name == refusal.option) return refuse("-" + option.name, refusal.reason);
    }
    for (const Refusal& refusal : kReceiving) {
      if (role == VmRole::kReceive && option.name == refusal.option) {
        return refusedf("-{} does not go with receiving a VM: {}", option.name, refusal.reason);
      }
    }
    VMHOP_TRY(check_option(option));
  }
  return ok_status();
}

}  // namespace vmhop

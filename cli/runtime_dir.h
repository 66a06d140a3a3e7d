// Where a VM's sockets and records live: <base>/<NAME>/, mode 0700.
#pragma once

#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

// $VMHOP_RUNTIME_DIR, else /run/vmhop for root, else $XDG_RUNTIME_DIR/vmhop.
Result<std::string> runtime_base();

// [A-Za-z0-9][A-Za-z0-9._-]{0,63}, and short enough that every socket path below `base` fits.
Status check_vm_name(const std::string& base, const std::string& name);

// The names below `base` that have a directory, sorted.
std::vector<std::string> list_vm_names(const std::string& base);

// The paths in one VM's directory. Costs nothing, owns nothing.
class VmPaths {
 public:
  VmPaths(const std::string& base, const std::string& name) : directory_(base + "/" + name) {}

  const std::string& directory() const { return directory_; }
  std::string control_socket() const { return directory_ + "/control.sock"; }
  std::string exporter_socket() const { return directory_ + "/exporter.sock"; }
  std::string pager_socket() const { return directory_ + "/pager.sock"; }
  std::string lifecycle_qmp() const { return directory_ + "/qmp-1.sock"; }
  std::string relocation_qmp() const { return directory_ + "/qmp-2.sock"; }
  std::string front_socket() const { return directory_ + "/front.sock"; }
  std::string migrate_socket() const { return directory_ + "/migrate.sock"; }
  std::string incoming_socket() const { return directory_ + "/incoming.sock"; }
  std::string commit_record() const { return directory_ + "/commit"; }
  std::string page_map() const { return directory_ + "/pages"; }

 private:
  std::string directory_;
};

// What of a VM's directory is alive, whoever asks.
struct Liveness {
  bool supervisor = false;
  bool exporter = false;
  bool pager = false;
  bool qemu = false;
  bool commit_recorded = false;
  bool any() const { return supervisor || exporter || pager || qemu; }
};
Liveness look_for_life(const VmPaths& paths);

// A name that this process holds; nobody else can while the object lives.
class NameClaim {
 public:
  // Makes the directory, or takes over one that a dead supervisor left, with a notice. Refused
  // (kRefused) while anything of the name's former VM lives.
  // With kMonitors the sockets of QEMU's monitors stay: one that somebody else started may wait.
  enum class Keep { kNothing, kMonitors };
  static Result<NameClaim> take(const std::string& base, const std::string& name,
                                Keep keep = Keep::kNothing);
  // For `vmhop recover`: the name of a VM whose supervisor is gone, with everything that it left.
  static Result<NameClaim> inherit(const std::string& base, const std::string& name);

  const VmPaths& paths() const { return paths_; }
  // Removes the directory with everything in it: the VM is gone from this host.
  void remove();

 private:
  NameClaim(VmPaths paths, UniqueFd lock) : paths_(std::move(paths)), lock_(std::move(lock)) {}
  VmPaths paths_;
  UniqueFd lock_;
};

// Removes what a VM whose every process is gone left behind.
void remove_vm_directory(const VmPaths& paths);

}  // namespace vmhop

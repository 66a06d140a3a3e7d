#include "cli/documents/page_texts.h"

#include <algorithm>
#include <map>

namespace vmhop {

const std::vector<std::pair<ExitCode, std::string>>& exit_code_texts() {
  static const std::vector<std::pair<ExitCode, std::string>> texts = {
      {kExitDone, "Done. Of relocate: the destination has all of the VM's memory."},
      {kExitFailed,
       "Failed; the message says why. The VM runs on where it was, unless the message "
       "says otherwise."},
      {kExitUsage, "The command line or the configuration file is wrong."},
      {kExitEndedBeforeDrained, "Relocated, but the VM ended there before it was drained."},
      {kExitRefused, "A check that is made beforehand said no; nothing was changed."},
      {kExitUnresolved,
       "Committed to the destination and not drained, and the exporter is gone: nobody is left to "
       "drain it."},
      {kExitDetached, "Committed; draining goes on without this command."},
      {kExitSupervisor, "vmhop itself failed. (Other codes are QEMU's.)"},
      {kExitInterrupted, "Called off by Ctrl-C; the VM runs on where it was."},
  };
  return texts;
}

bool passes_on_qemus_code(const std::string& command) {
  return command == "run" || command == "receive" || command == "pager" || command == "recover";
}

bool names_new_vm(const std::string& command) {
  return command == "run" || command == "receive" || command == "pager";
}

std::vector<ExitCode> exit_codes_of(const std::string& command) {
  if (command == "relocate") {
    return {kExitDone,    kExitFailed,     kExitUsage,    kExitEndedBeforeDrained,
            kExitRefused, kExitUnresolved, kExitDetached, kExitInterrupted};
  }
  if (command == "recover")
    return {kExitDone, kExitFailed, kExitUsage, kExitRefused, kExitSupervisor};
  if (passes_on_qemus_code(command)) return {kExitDone, kExitFailed, kExitUsage, kExitSupervisor};
  return {kExitDone, kExitFailed, kExitUsage, kExitRefused};
}

std::vector<ExampleText> examples_of(const std::string& command) {
  static const std::map<std::string, std::vector<ExampleText>> examples = {
      {"",
       {{"A key that both hosts have, once:",
         {"host-a# vmhop keygen", "host-a# scp -p /etc/vmhop/key host-b:/etc/vmhop/key"}},
        {"A VM at the one host, awaited at the other, and its hop:",
         {"host-a# vmhop run web -- qemu-system-x86_64 -M q35 -accel kvm -m 4G …",
          "host-b# vmhop receive web --listen :4455 -- qemu-system-x86_64 -M q35 -accel kvm -m 4G "
          "…",
          "host-a# vmhop relocate web host-b:4455"}}}},
      {"keygen",
       {{"A fresh key, and the same at the other host:",
         {"vmhop keygen", "scp -p /etc/vmhop/key host-b:/etc/vmhop/key"}}}},
      {"run",
       {{"A VM with KVM, a disk and a tap device:",
         {"vmhop run web -- qemu-system-x86_64 -M pc-q35-7.2 -accel kvm -m 4G \\",
          "    -drive if=virtio,format=raw,cache=none,file=/dev/vg/web \\",
          "    -nic tap,model=virtio-net-pci,ifname=tap-web,script=no,downscript=no"}}}},
      {"receive",
       {{"The same VM, awaited at the other host, with RDMA where both sides have it:",
         {"vmhop receive web --listen :4455 --rdma-trusted -- qemu-system-x86_64 -M pc-q35-7.2 \\",
          "    -accel kvm -m 4G -drive if=virtio,format=raw,cache=none,file=/dev/vg/web \\",
          "    -nic tap,model=virtio-net-pci,ifname=tap-web,script=no,downscript=no"}}}},
      {"pager", {{"For a QEMU of libvirt's:", {"vmhop pager web --listen :4455"}}}},
      {"relocate",
       {{"Move it, and go on with a script only when all of it is there:",
         {"vmhop relocate web host-b:4455 && echo host-a is free"}},
        {"To a host where nothing was started, whose disk has another path:",
         {"vmhop relocate web ssh://host-b --map /dev/vg/web=/dev/vg2/web"}},
        {"By RDMA or not at all:",
         {"vmhop relocate web host-b:4455 --transport rdma --rdma-trusted"}}}},
      {"status",
       {{"All VMs of this host, again each second:", {"vmhop status --watch"}},
        {"One of them, for a script:", {"vmhop status web --json"}}}},
      {"metrics",
       {{"For node_exporter's textfile collector, from a timer:",
         {"vmhop metrics --format prometheus --output /var/lib/node_exporter/vmhop.prom"}},
        {"To be scraped:", {"vmhop metrics --listen 127.0.0.1:9177"}}}},
      {"report",
       {{"The last relocation of a VM, to be read in a browser:",
         {"vmhop report web --output web.html"}}}},
      {"devices", {{"Why there is no RDMA here:", {"vmhop devices"}}}},
      {"drop", {{"Its destination will never come back:", {"vmhop drop web"}}}},
      {"resolve",
       {{"At the source of a VM whose destination died before it ran there:",
         {"vmhop resolve web --run-here"}}}},
      {"recover", {{"After a supervisor was killed:", {"vmhop status", "vmhop recover web"}}}},
  };
  auto found = examples.find(command);
  return found == examples.end() ? std::vector<ExampleText>() : found->second;
}

std::vector<std::string> see_also_of(const std::string& command) {
  static const std::map<std::string, std::vector<std::string>> pages = {
      {"keygen", {"vmhop.conf(5)"}},
      {"run", {"vmhop-relocate(1)", "vmhop-receive(1)", "vmhop-recover(1)"}},
      {"receive", {"vmhop-relocate(1)", "vmhop-run(1)", "vmhop-pager(1)", "vmhop.conf(5)"}},
      {"pager", {"vmhop-receive(1)", "vmhop-relocate(1)"}},
      {"relocate", {"vmhop-receive(1)", "vmhop-status(1)", "vmhop-drop(1)", "vmhop.conf(5)"}},
      {"status", {"vmhop-relocate(1)", "vmhop-recover(1)"}},
      {"metrics", {"vmhop-status(1)", "vmhop-report(1)"}},
      {"report", {"vmhop-relocate(1)", "vmhop-status(1)"}},
      {"devices", {"vmhop-relocate(1)", "rdma(8)"}},
      {"drop", {"vmhop-status(1)", "vmhop-resolve(1)"}},
      {"resolve", {"vmhop-status(1)", "vmhop-recover(1)", "vmhop-drop(1)"}},
      {"recover", {"vmhop-run(1)", "vmhop-resolve(1)"}},
  };
  std::vector<std::string> all = {"vmhop(1)"};
  if (auto found = pages.find(command); found != pages.end()) {
    all.insert(all.end(), found->second.begin(), found->second.end());
  }
  return all;
}

const std::vector<TaggedText>& file_texts() {
  static const std::vector<TaggedText> texts = {
      {"/etc/vmhop/key",
       "The key that both hosts share, mode 0600. Of users other than root: "
       "$XDG_CONFIG_HOME/vmhop/key, or ~/.config/vmhop/key."},
      {"/etc/vmhop/vmhop.conf",
       "Defaults of this host, see vmhop.conf(5). Of users other than root: vmhop.conf beside the "
       "key."},
      {"/run/vmhop/NAME/",
       "What is known of a VM while anything of it is here: records, sockets, the page map. Of "
       "users other than root: $XDG_RUNTIME_DIR/vmhop/NAME/."},
      {"/etc/vmhop/vms/NAME.conf", "A VM of the systemd units vmhop@NAME and vmhop-receive@NAME."},
  };
  return texts;
}

const std::vector<TaggedText>& environment_texts() {
  static const std::vector<TaggedText> texts = {
      {"VMHOP_CONFIG", "Another configuration file."},
      {"VMHOP_SSH", "How `vmhop relocate NAME ssh://HOST` calls ssh, unless --ssh says so."},
      {"VMHOP_RUNTIME_DIR",
       "Another directory than /run/vmhop, by an absolute path. It must belong "
       "to the user, and nobody else may write to it."},
      {"VMHOP_PRELOAD_LIBRARY",
       "Another libvmhop-preload.so than the one that was installed with vmhop."},
      {"VMHOP_UNCONFINED",
       "If it is set, pager and exporter keep privileges that they do not need: for debuggers."},
  };
  return texts;
}

}  // namespace vmhop

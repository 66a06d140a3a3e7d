// The commands that are a VM's supervisor: run, receive, pager.
#include "cli/command_set.h"
#include "cli/transport_options.h"

namespace vmhop {
namespace {

constexpr const char* kRunHelp =
    "Example:\n  vmhop run web -- qemu-system-x86_64 -M q35 -accel kvm -m 4G -drive …\n"
    "-m alone is enough. For NUMA: -object memory-backend-postcopy,id=ID,size=SIZE for each node\n"
    "and -numa node,memdev=ID.";
constexpr const char* kReceiveHelp =
    "QEMU's arguments are those of the source: the same machine with its version (-M pc-q35-7.2),\n"
    "memory and devices. Once the VM has arrived this is what `vmhop run` is, and it can hop on.\n"
    "Example:\n  vmhop receive web --listen :4000 -- qemu-system-x86_64 -M pc-q35-7.2 -m 4G …";
constexpr const char* kPagerHelp =
    "For a QEMU with memory-backend-postcopy (docs/qemu.md) that you or libvirt start. The "
    "arguments\n"
    "it needs are shown. Once the VM has arrived, `vmhop relocate` can move it on, and ending "
    "this\n"
    "leaves QEMU alone.";

}  // namespace

void CommandSet::add_vm_commands() {
  run_command = app.add_subcommand("run", "Starts a VM, ready to be relocated: NAME -- QEMU ARGS…");
  run_command->add_option("NAME", run.name, "The VM's name on this host")->required();
  add_front_option(run_command, run.front);
  run_command->footer(kRunHelp);

  receive_command = app.add_subcommand(
      "receive", "Waits for a VM to arrive: NAME --listen [HOST]:PORT -- QEMU ARGS…");
  receive_command->add_option("NAME", receive.name, "The VM's name, as at the source")->required();
  receive_command->add_option("--listen", receive.listen, "Where to be reached")
      ->type_name("[HOST]:PORT")
      ->required();
  add_credentials_options(receive_command, receive.credentials);
  add_authz_option(receive_command, receive.credentials);
  receive.transport = defaults.transport;
  add_transport_options(*receive_command, receive.transport);
  receive_command->add_flag("--once", receive.once,
                            "Exit with 1 when an attempt fails, instead of waiting for another");
  add_front_option(receive_command, receive.front);
  receive_command->footer(kReceiveHelp);

  pager_command =
      app.add_subcommand("pager", "Waits for a VM to arrive in a QEMU that somebody else starts");
  pager_command->add_option("NAME", pager.name, "The VM's name, as at the source")->required();
  pager_command->add_option("--listen", pager.listen, "Where to be reached")
      ->type_name("[HOST]:PORT")
      ->required();
  add_credentials_options(pager_command, pager.credentials);
  add_authz_option(pager_command, pager.credentials);
  pager.transport = defaults.transport;
  add_transport_options(*pager_command, pager.transport);
  pager_command->add_flag("--once", pager.once,
                          "Exit with 1 when an attempt fails, instead of waiting for another");
  pager_command->footer(kPagerHelp);
}

}  // namespace vmhop

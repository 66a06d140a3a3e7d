// What `vmhop relocate` may be given.
#include "cli/command_set.h"
#include "cli/transport_options.h"

namespace vmhop {
namespace {

constexpr const char* kRelocateHelp =
    "Ctrl-C before the commit aborts: the VM runs on here. After it, it only stops watching.\n"
    "Exits with 0 only when the destination has all of the VM's memory.\n"
    "With ssh://HOST nothing has to be started or shared beforehand: vmhop starts the receiving "
    "side\n"
    "there, with the VM's own QEMU command line and a key for this relocation alone, and leaves "
    "nothing\n"
    "there if the VM stays here. Example:\n"
    "  vmhop relocate web ssh://root@host-b --map tap0=tap3 --map /images=/mnt/images";

}  // namespace

void CommandSet::add_relocate_command() {
  relocate_command = app.add_subcommand("relocate", "Moves a running VM to another host");
  relocate_command->add_option("NAME", relocate.name, "The VM")->required();
  relocate_command
      ->add_option("DESTINATION", relocate.destination,
                   "HOST:PORT where `vmhop receive` listens, or ssh://[USER@]HOST[:PORT] to have "
                   "it started there")
      ->required();
  add_ssh_options();
  add_credentials_options(relocate_command, relocate.credentials);
  relocate_command
      ->add_option_function<std::string>(
          "--tls-hostname",
          [this](const std::string& name) { relocate.credentials.tls_names = {name}; },
          "Whom the destination's certificate has to be for [HOST]")
      ->type_name("NAME");
  relocate_command->add_flag("--json", relocate.json, "End with one line of JSON");
  relocate_command->add_flag("--plain-data", relocate.plain_data,
                             "Do not encrypt memory on its way: for trusted networks only");
  relocate.transport = defaults.transport;
  add_transport_options(*relocate_command, relocate.transport);
  add_memory_options(*relocate_command, relocate.transport);
  relocate_command->add_flag("--wait", relocate.wait,
                             "If the VM has only just arrived here, wait until it is whole");
  relocate_command->add_flag("--hold", relocate.hold,
                             "Prepare everything, and stop the VM only when a line `go` comes on "
                             "standard input; any other line, or its end, calls it off");
  relocate_command
      ->add_option("--prepare-timeout", relocate.prepare_seconds,
                   "Seconds until the destination must be ready; the VM runs meanwhile [30, and 1 "
                   "for each GiB of RAM]")
      ->check(CLI::Range(0.1, 3600.0));
  relocate_command
      ->add_option("--switch-timeout", relocate.switch_seconds,
                   "Seconds the VM may be stopped before it goes on here instead")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  relocate_command->footer(kRelocateHelp);
}

void CommandSet::add_ssh_options() {
  constexpr const char* kGroup = "With ssh://";
  SshOptions& ssh = relocate.ssh;
  relocate_command
      ->add_option("--map", ssh.maps,
                   "What differs there in QEMU's command line: a path, a tap, a list of CPUs. Any "
                   "number of times")
      ->type_name("OLD=NEW")
      ->allow_extra_args(false)
      ->group(kGroup);
  relocate_command
      ->add_option("--address", ssh.address,
                   "Where the memory goes: that host's address in another network, or a port that "
                   "is open there [as ssh reaches it, and a free port]")
      ->type_name("HOST[:PORT]")
      ->group(kGroup);
  relocate_command
      ->add_option("--ssh", ssh.command,
                   "How to call ssh, with options of its own [$VMHOP_SSH, or ssh]")
      ->type_name("COMMAND")
      ->group(kGroup);
  relocate_command
      ->add_option("--remote-vmhop", ssh.remote_vmhop,
                   "How to call vmhop there, as that shell reads it")
      ->type_name("COMMAND")
      ->capture_default_str()
      ->group(kGroup);
}

}  // namespace vmhop

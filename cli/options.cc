#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "backend/session/key.h"
#include "cli/exit_codes.h"
#include "cli/helper_process.h"
#include "cli/transport_options.h"

namespace vmhop {
namespace {

constexpr const char* kDescription =
    "Relocates running virtual machines between hosts in milliseconds: a VM stops here, runs on "
    "there at once, and its memory follows on demand.";
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
constexpr const char* kRelocateHelp =
    "Ctrl-C before the commit aborts: the VM runs on here. After it, it only stops watching.\n"
    "Exits with 0 only when the destination has all of the VM's memory.";
constexpr const char* kDropHelp =
    "Pages that the destination has not fetched yet are lost, and with them, most likely, the VM.\n"
    "For memory whose destination is gone for good.";

constexpr const char* kResolveHelp =
    "For a VM that is in doubt because the hosts cannot reach each other. vmhop never decides such "
    "a\n"
    "thing by itself: of two sides that both run a VM its disks are the first victim. What the "
    "decision\n"
    "means here is said before it is made.";
constexpr const char* kRecoverHelp =
    "Adopts what a supervisor that was killed has left: QEMU, and the relocation that was under "
    "way.\n"
    "From then on this is what `vmhop run` or `vmhop receive` was, in the foreground. A VM that "
    "was\n"
    "frozen for want of its pages goes on.";

struct Reader {
  CLI::App app{kDescription, "vmhop"};
  KeygenOptions keygen;
  RunOptions run;
  ReceiveOptions receive;
  PagerOptions pager;
  RelocateOptions relocate;
  StatusOptions status;
  DropOptions drop;
  ResolveOptions resolve;
  RecoverOptions recover;
  DevicesOptions devices;
  const HostDefaults& defaults;
  std::string log_level = "info";

  CLI::App* keygen_command = nullptr;
  CLI::App* run_command = nullptr;
  CLI::App* receive_command = nullptr;
  CLI::App* pager_command = nullptr;
  CLI::App* relocate_command = nullptr;
  CLI::App* status_command = nullptr;
  CLI::App* drop_command = nullptr;
  CLI::App* resolve_command = nullptr;
  CLI::App* recover_command = nullptr;
  CLI::App* devices_command = nullptr;
  CLI::App* internal_exporter = nullptr;
  CLI::App* internal_pager = nullptr;

  explicit Reader(const HostDefaults& host);
  void add_vm_commands();
  void add_front_option(CLI::App* command, std::string& front);
  void add_operator_commands();
  void add_emergency_commands();
  void add_key_option(CLI::App* command, std::string& path);
};

Reader::Reader(const HostDefaults& host) : defaults(host) {
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", std::string("vmhop ") + VMHOP_VERSION);
  app.footer(kExitCodeHelp);
  app.add_option("--log-level", log_level, "What to say on standard error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  keygen.file = defaults.key_path;
  keygen_command = app.add_subcommand(
      "keygen", "Writes a fresh key, which both hosts must have; never overwrites one");
  keygen_command->add_option("FILE", keygen.file, "Where to")->capture_default_str();
  add_vm_commands();
  add_operator_commands();
  add_emergency_commands();
  // An empty group hides them.
  internal_exporter = app.add_subcommand(kExporterCommand, "")->group("");
  internal_pager = app.add_subcommand(kPagerCommand, "")->group("");
}

void Reader::add_key_option(CLI::App* command, std::string& path) {
  path = defaults.key_path;
  command->add_option("--key", path, "The key that both hosts share")->capture_default_str();
}

void Reader::add_front_option(CLI::App* command, std::string& front) {
  command
      ->add_option("--front", front,
                   "What hands QEMU's RAM over: its object memory-backend-postcopy, or a library "
                   "that is preloaded into it; auto takes the object where QEMU has it")
      ->check(CLI::IsMember({"auto", "object", "preload"}))
      ->capture_default_str();
}

void Reader::add_vm_commands() {
  run_command = app.add_subcommand("run", "Starts a VM, ready to be relocated: NAME -- QEMU ARGS…");
  run_command->add_option("NAME", run.name, "The VM's name on this host")->required();
  add_front_option(run_command, run.front);
  run_command->footer(kRunHelp);

  receive_command = app.add_subcommand(
      "receive", "Waits for a VM to arrive: NAME --listen [HOST]:PORT -- QEMU ARGS…");
  receive_command->add_option("NAME", receive.name, "The VM's name, as at the source")->required();
  receive_command->add_option("--listen", receive.listen, "[HOST]:PORT to be reached at")
      ->required();
  add_key_option(receive_command, receive.key_path);
  receive.transport = defaults.transport;
  add_transport_options(*receive_command, receive.transport);
  receive_command->add_flag("--once", receive.once,
                            "Exit with 1 when an attempt fails, instead of waiting for another");
  add_front_option(receive_command, receive.front);
  receive_command->footer(kReceiveHelp);

  pager_command =
      app.add_subcommand("pager", "Waits for a VM to arrive in a QEMU that somebody else starts");
  pager_command->add_option("NAME", pager.name, "The VM's name, as at the source")->required();
  pager_command->add_option("--listen", pager.listen, "[HOST]:PORT to be reached at")->required();
  add_key_option(pager_command, pager.key_path);
  pager.transport = defaults.transport;
  add_transport_options(*pager_command, pager.transport);
  pager_command->add_flag("--once", pager.once,
                          "Exit with 1 when an attempt fails, instead of waiting for another");
  pager_command->footer(kPagerHelp);
}

void Reader::add_operator_commands() {
  relocate_command = app.add_subcommand("relocate", "Moves a running VM to where it is awaited");
  relocate_command->add_option("NAME", relocate.name, "The VM")->required();
  relocate_command->add_option("HOST:PORT", relocate.destination, "Where `vmhop receive` listens")
      ->required();
  add_key_option(relocate_command, relocate.key_path);
  relocate_command->add_flag("--json", relocate.json, "End with one line of JSON");
  relocate_command->add_flag("--plain-data", relocate.plain_data,
                             "Do not encrypt memory on its way: for trusted networks only");
  relocate.transport = defaults.transport;
  add_transport_options(*relocate_command, relocate.transport);
  add_paging_option(*relocate_command, relocate.transport);
  relocate_command->add_flag("--wait", relocate.wait,
                             "If the VM has only just arrived here, wait until it is whole");
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

  status_command = app.add_subcommand("status", "Shows the VMs of this host, or one in detail");
  status_command->add_option("NAME", status.name, "The VM; all when left out");
  status_command->add_flag("--json", status.json, "As JSON");
  status_command->add_flag("--watch", status.watch, "Again each second, until Ctrl-C");

  devices_command = app.add_subcommand("devices", "Shows the RDMA devices of this host");
  devices_command->add_flag("--json", devices.json, "As JSON");
  devices_command->footer("Exits with 0 when one of them is usable.");
}

// For bad days.
void Reader::add_emergency_commands() {
  drop_command = app.add_subcommand(
      "drop", "Gives up what is left here of a VM that was committed to another host");
  drop_command->add_option("NAME", drop.name, "The VM")->required();
  drop_command->add_flag("--yes", drop.yes, "Do not ask");
  drop_command->footer(kDropHelp);

  resolve_command =
      app.add_subcommand("resolve", "Decides, in place of the other host, where a VM runs");
  resolve_command->add_option("NAME", resolve.name, "The VM")->required();
  auto* here = resolve_command->add_flag("--run-here", resolve.run_here, "It runs on this host");
  auto* there = resolve_command->add_flag("--give-back", resolve.give_back,
                                          "It is the other host's; it never runs here again");
  here->excludes(there);
  resolve_command->add_flag("--yes", resolve.yes, "Do not ask");
  resolve_command->footer(kResolveHelp);

  recover_command =
      app.add_subcommand("recover", "Supervises a VM whose `vmhop run` or `receive` was killed");
  recover_command->add_option("NAME", recover.name, "The VM")->required();
  recover_command->add_option("--key", recover.key_path,
                              "The key that both hosts share [the one that it was received with]");
  recover.default_key = defaults.key_path;
  recover_command->footer(kRecoverHelp);
}

CommandLine wrong_usage(const std::string& message) {
  return {std::nullopt, "vmhop: " + message + "\nvmhop --help tells more.\n", kExitUsage, ""};
}

}  // namespace

CommandLine parse_command_line(std::vector<std::string> arguments, const HostDefaults& defaults) {
  auto separator = std::find(arguments.begin(), arguments.end(), "--");
  bool has_qemu = separator != arguments.end();
  std::vector<std::string> qemu(has_qemu ? separator + 1 : separator, arguments.end());
  arguments.erase(separator, arguments.end());

  Reader reader(defaults);
  try {
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    reader.app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return wrong_usage(error.what());
    std::ostringstream text;
    reader.app.exit(error, text, text);
    return {std::nullopt, text.str(), kExitDone, ""};
  }
  CommandLine result;
  result.log_level = reader.log_level;
  auto chosen = [&](CLI::App* command) { return reader.app.got_subcommand(command); };
  bool takes_qemu = chosen(reader.run_command) || chosen(reader.receive_command);
  if (takes_qemu && qemu.empty()) {
    return wrong_usage("QEMU's command is missing: add -- qemu-system-x86_64 ARGUMENTS");
  }
  if (!takes_qemu && has_qemu) return wrong_usage("this command takes nothing after --");
  if (chosen(reader.keygen_command)) result.command = reader.keygen;
  if (chosen(reader.run_command)) {
    reader.run.qemu = qemu;
    result.command = reader.run;
  }
  if (chosen(reader.receive_command)) {
    reader.receive.qemu = qemu;
    result.command = reader.receive;
  }
  if (chosen(reader.pager_command)) result.command = reader.pager;
  if (chosen(reader.relocate_command)) result.command = reader.relocate;
  if (chosen(reader.status_command)) result.command = reader.status;
  if (chosen(reader.drop_command)) result.command = reader.drop;
  if (chosen(reader.resolve_command)) {
    if (reader.resolve.run_here == reader.resolve.give_back) {
      return wrong_usage("say which: --run-here or --give-back");
    }
    result.command = reader.resolve;
  }
  if (chosen(reader.recover_command)) result.command = reader.recover;
  if (chosen(reader.devices_command)) result.command = reader.devices;
  if (chosen(reader.internal_exporter)) result.command = HelperOptions{true};
  if (chosen(reader.internal_pager)) result.command = HelperOptions{false};
  return result;
}

}  // namespace vmhop

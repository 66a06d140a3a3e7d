#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "backend/session/key.h"
#include "cli/exit_codes.h"
#include "cli/helper_process.h"
#include "cli/receive_request.h"
#include "cli/ssh_destination.h"
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
    "Exits with 0 only when the destination has all of the VM's memory.\n"
    "With ssh://HOST nothing has to be started or shared beforehand: vmhop starts the receiving "
    "side\n"
    "there, with the VM's own QEMU command line and a key for this relocation alone, and leaves "
    "nothing\n"
    "there if the VM stays here. Example:\n"
    "  vmhop relocate web ssh://root@host-b --map tap0=tap3 --map /images=/mnt/images";
constexpr const char* kDropHelp =
    "Pages that the destination has not fetched yet are lost, and with them, most likely, the VM.\n"
    "For memory whose destination is gone for good.";

constexpr const char* kMetricsHelp =
    "docs/metrics.md says what each means. For node_exporter's textfile collector, from a timer:\n"
    "  vmhop metrics --format prometheus --output /var/lib/prometheus/node-exporter/vmhop.prom\n"
    "With --listen the format is what the client asks for; it neither encrypts nor asks who is "
    "there.";
constexpr const char* kReportHelp =
    "Kept on either host, also when the VM has left: at the source with the blackout, at the\n"
    "destination with the histogram of fault latencies. The page needs nothing from elsewhere.";
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
  MetricsOptions metrics;
  ReportOptions report;
  std::string metrics_format = "openmetrics";
  const HostDefaults& defaults;
  std::string log_level = "info";
  std::string log_format;

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
  CLI::App* internal_receive = nullptr;
  CLI::App* metrics_command = nullptr;
  CLI::App* report_command = nullptr;
  CLI::App* internal_exporter = nullptr;
  CLI::App* internal_pager = nullptr;

  explicit Reader(const HostDefaults& host);
  void add_vm_commands();
  void add_front_option(CLI::App* command, std::string& front);
  void add_operator_commands();
  void add_ssh_options();
  void add_monitoring_commands();
  void add_emergency_commands();
  void add_credentials_options(CLI::App* command, CredentialsChoice& choice);
  void add_authz_option(CLI::App* command, CredentialsChoice& choice);
};

Reader::Reader(const HostDefaults& host) : defaults(host) {
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", std::string("vmhop ") + VMHOP_VERSION);
  app.footer(kExitCodeHelp);
  app.add_option("--log-level", log_level, "What to say on standard error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  log_format = defaults.log_format == LogFormat::kJson ? "json" : "text";
  app.add_option("--log-format", log_format,
                 "How: lines for people, or one JSON object a line (QEMU's own output stays as it "
                 "is)")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  keygen.file = defaults.key_path;
  keygen_command = app.add_subcommand(
      "keygen", "Writes a fresh key, which both hosts must have; never overwrites one");
  keygen_command->add_option("FILE", keygen.file, "Where to")->capture_default_str();
  add_vm_commands();
  add_operator_commands();
  add_monitoring_commands();
  add_emergency_commands();
  // An empty group hides them.
  internal_receive = app.add_subcommand(kReceiveCommand, "")->group("");
  internal_exporter = app.add_subcommand(kExporterCommand, "")->group("");
  internal_pager = app.add_subcommand(kPagerCommand, "")->group("");
}

void Reader::add_credentials_options(CLI::App* command, CredentialsChoice& choice) {
  choice.key_path = defaults.key_path;
  choice.tls_creds = defaults.tls_creds;
  auto* key = command->add_option("--key", choice.key_path, "The key that both hosts share")
                  ->type_name("FILE")
                  ->capture_default_str();
  auto* certificates = command
                           ->add_option("--tls-creds", choice.tls_creds,
                                        "A directory of X.509 certificates, in place of the key")
                           ->type_name("DIR")
                           ->capture_default_str();
  key->excludes(certificates);
  // One that is named goes before certificates of the configuration file.
  key->each([&choice](const std::string&) { choice.tls_creds.clear(); });
}

void Reader::add_authz_option(CLI::App* command, CredentialsChoice& choice) {
  command
      ->add_option("--tls-authz", choice.tls_names,
                   "Whose certificate a source needs, by host name; may be repeated [anybody's of "
                   "the CA]")
      ->type_name("NAME")
      ->allow_extra_args(false);
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

void Reader::add_operator_commands() {
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
  status_command->add_flag("--watch", status.watch,
                           "Again each second, until Ctrl-C; on a terminal with bars");

  devices_command = app.add_subcommand("devices", "Shows the RDMA devices of this host");
  devices_command->add_flag("--json", devices.json, "As JSON");
  devices_command->footer("Exits with 0 when one of them is usable.");
}

void Reader::add_ssh_options() {
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

void Reader::add_monitoring_commands() {
  metrics_command =
      app.add_subcommand("metrics", "Shows the VMs of this host to a monitoring system");
  auto* format = metrics_command
                     ->add_option("--format", metrics_format,
                                  "OpenMetrics 1.0, or Prometheus' older text format")
                     ->check(CLI::IsMember({"openmetrics", "prometheus"}))
                     ->capture_default_str();
  auto* output = metrics_command->add_option(
      "--output", metrics.output, "A file, replaced in one step, instead of standard output");
  metrics_command
      ->add_option("--listen", metrics.listen,
                   "[HOST]:PORT to serve http://HOST:PORT/metrics at, until Ctrl-C")
      ->excludes(output)
      ->excludes(format);
  metrics_command->footer(kMetricsHelp);

  report_command = app.add_subcommand(
      "report", "Writes a VM's last relocation from or to this host as a page of HTML");
  report_command->add_option("NAME", report.name, "The VM, also one that has left")->required();
  report_command->add_option("--output", report.output,
                             "A file, replaced in one step, instead of standard output");
  report_command->add_flag("--json", report.json, "What the page is made of, as JSON");
  report_command->footer(kReportHelp);
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
  auto* key = recover_command
                  ->add_option("--key", recover.credentials.key_path,
                               "The key that both hosts share [what was used so far]")
                  ->type_name("FILE");
  recover_command
      ->add_option("--tls-creds", recover.credentials.tls_creds,
                   "A directory of X.509 certificates, in place of the key [what was used so far]")
      ->type_name("DIR")
      ->excludes(key);
  recover.default_credentials = {defaults.key_path, defaults.tls_creds};
  recover_command->footer(kRecoverHelp);
}

bool wants_ssh(const SshOptions& options) {
  return !options.maps.empty() || !options.address.empty() || !options.command.empty() ||
         options.remote_vmhop != SshOptions().remote_vmhop;
}

CommandLine wrong_usage(const std::string& message) {
  return {std::nullopt, message + "\nvmhop --help tells more.", kExitUsage};
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
    return {std::nullopt, text.str(), kExitDone};
  }
  CommandLine result;
  result.log_level = reader.log_level;
  result.log_format = log_format_named(reader.log_format).value_or(LogFormat::kText);
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
  if (chosen(reader.relocate_command)) {
    if (wants_ssh(reader.relocate.ssh) && !is_ssh_destination(reader.relocate.destination)) {
      return wrong_usage(
          "--map, --address, --ssh and --remote-vmhop are for a destination ssh://HOST");
    }
    result.command = reader.relocate;
  }
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
  if (chosen(reader.internal_receive)) result.command = SshReceiveOptions{defaults.transport};
  if (chosen(reader.metrics_command)) {
    bool open = reader.metrics_format == "openmetrics";
    reader.metrics.format = open ? MetricsFormat::kOpenMetrics : MetricsFormat::kPrometheus;
    result.command = reader.metrics;
  }
  if (chosen(reader.report_command)) result.command = reader.report;
  if (chosen(reader.internal_exporter)) result.command = HelperOptions{true};
  if (chosen(reader.internal_pager)) result.command = HelperOptions{false};
  return result;
}

void look_at_command_line(const HostDefaults& defaults,
                          const std::function<void(const CLI::App&)>& look) {
  Reader reader(defaults);
  look(reader.app);
}

}  // namespace vmhop

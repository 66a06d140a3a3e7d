// The commands that say how things are, and those for bad days.
#include "cli/command_set.h"

namespace vmhop {
namespace {

constexpr const char* kMetricsHelp =
    "docs/metrics.md says what each means. For node_exporter's textfile collector, from a timer:\n"
    "  vmhop metrics --format prometheus --output /var/lib/prometheus/node-exporter/vmhop.prom\n"
    "With --listen the format is what the client asks for; it neither encrypts nor asks who is "
    "there.";
constexpr const char* kReportHelp =
    "Kept on either host, also when the VM has left: at the source with the blackout, at the\n"
    "destination with the histogram of fault latencies. The page needs nothing from elsewhere.";
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

}  // namespace

void CommandSet::add_status_commands() {
  status_command = app.add_subcommand("status", "Shows the VMs of this host, or one in detail");
  status_command->add_option("NAME", status.name, "The VM; all when left out");
  status_command->add_flag("--json", status.json, "As JSON");
  status_command->add_flag("--watch", status.watch,
                           "Again each second, until Ctrl-C; on a terminal with bars");

  devices_command = app.add_subcommand("devices", "Shows the RDMA devices of this host");
  devices_command->add_flag("--json", devices.json, "As JSON");
  devices_command->footer("Exits with 0 when one of them is usable.");
}

void CommandSet::add_monitoring_commands() {
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

void CommandSet::add_emergency_commands() {
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

}  // namespace vmhop

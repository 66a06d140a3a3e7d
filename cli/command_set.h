// All commands and options of vmhop as CLI11 has them, and what was read of each. Only options.cc
// needs it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli/options.h"

namespace vmhop {

struct CommandSet {
  CLI::App app;
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

  explicit CommandSet(const HostDefaults& host);

 private:
  // In the order in which they are shown.
  void add_vm_commands();
  void add_relocate_command();
  void add_ssh_options();
  void add_status_commands();
  void add_monitoring_commands();
  void add_emergency_commands();
  void add_front_option(CLI::App* command, std::string& front);
  void add_credentials_options(CLI::App* command, CredentialsChoice& choice);
  void add_authz_option(CLI::App* command, CredentialsChoice& choice);
};

}  // namespace vmhop

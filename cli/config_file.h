// The configuration file: what this host's administrator sets once for all commands.
#pragma once

#include <string>

#include "backend/base/result.h"
#include "backend/transport_choice.h"
#include "cli/logging.h"

namespace CLI {
class App;
}

namespace vmhop {

struct HostDefaults {
  std::string key_path;
  TransportPolicy transport;
  std::string tls_creds = {};  // wins over the key
  LogFormat log_format = LogFormat::kText;
};

// $VMHOP_CONFIG; or for root /etc/vmhop/vmhop.conf, for others $XDG_CONFIG_HOME/vmhop/vmhop.conf.
std::string config_path();

// Lines of `name = value`: key, tls-creds, transport, rdma-trusted, rdma-odp, bind, verify,
// bandwidth, log-format. No file is as good as an empty one; a name that is not known is an error.
Result<HostDefaults> load_config(const std::string& path);

// What it may set, each into `defaults`.
void add_config_options(CLI::App& file, HostDefaults& defaults);

}  // namespace vmhop

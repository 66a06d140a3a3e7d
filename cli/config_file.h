// The configuration file: what this host's administrator sets once for all commands.
#pragma once

#include <string>

#include "backend/base/result.h"
#include "backend/transport_choice.h"

namespace vmhop {

struct HostDefaults {
  std::string key_path;
  TransportPolicy transport;
};

// $VMHOP_CONFIG; or for root /etc/vmhop/vmhop.conf, for others $XDG_CONFIG_HOME/vmhop/vmhop.conf.
std::string config_path();

// Lines of `name = value`: key, transport, rdma-trusted, rdma-odp, bind. No file is as good as an
// empty one; a name that is not known is an error.
Result<HostDefaults> load_config(const std::string& path);

}  // namespace vmhop

// The options that say by which way pages travel; the same for `relocate`, `receive` and the
// configuration file.
#pragma once

#include <CLI/App.hpp>
#include <memory>

#include "backend/one_sided.h"
#include "backend/transport_choice.h"

namespace vmhop {

// `policy` holds the defaults, and then what was chosen.
void add_transport_options(CLI::App& command, TransportPolicy& policy);
// For the side whose memory is read.
void add_memory_options(CLI::App& command, TransportPolicy& policy);

// What cannot be had on this host, before anything is started: kRefused.
Status check_transport(const TransportPolicy& policy);

// RDMA, for the exporter and the pager.
Result<std::unique_ptr<OneSidedTransport>> make_one_sided(const std::string& bind);

}  // namespace vmhop

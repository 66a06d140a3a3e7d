#include "cli/transport_options.h"

#include <CLI/CLI.hpp>
#include <map>

#include "rdma/locality.h"
#include "rdma/transport.h"

namespace vmhop {

void add_transport_options(CLI::App& command, TransportPolicy& policy) {
  const std::map<std::string, TransportChoice> choices{{"auto", TransportChoice::kAuto},
                                                       {"rdma", TransportChoice::kRdma},
                                                       {"tcp", TransportChoice::kTcp}};
  command
      .add_option("--transport", policy.choice,
                  "How pages travel; auto takes RDMA where both sides can and trust the fabric")
      ->transform(CLI::CheckedTransformer(choices, CLI::ignore_case).description(""))
      ->type_name("auto|rdma|tcp")
      ->default_str(transport_choice_name(policy.choice));
  command.add_flag("--rdma-trusted", policy.rdma_trusted,
                   "The RDMA fabric may see the VM's memory: it does not encrypt");
  command.add_option("--bind", policy.bind, "NUMA node of threads and buffers for RDMA")
      ->type_name("auto|none|node:N")
      ->check(CLI::Validator(
          [](const std::string& text) {
            auto parsed = rdma::parse_bind_policy(text);
            return parsed ? std::string() : parsed.error().message();
          },
          "", "bind"))
      ->capture_default_str();
}

void add_memory_options(CLI::App& command, TransportPolicy& policy) {
  command.add_flag("--rdma-odp", policy.on_demand_paging,
                   "Do not pin the VM's memory, where the RDMA device can do without");
  command.add_flag("--verify", policy.verify,
                   "Compare every page that arrives with a checksum (CRC32C) of the source's");
  command
      .add_option(
          "--bandwidth", policy.bandwidth,
          "What precaching may take of the network, in bytes a second: 500MB, 2GiB; 0 is no "
          "limit. Pages that the guest waits for are not held back")
      ->transform(CLI::AsSizeValue(true))
      ->type_name("BYTES")
      ->capture_default_str();
}

Status check_transport(const TransportPolicy& policy) {
  if (policy.choice != TransportChoice::kRdma) return ok_status();
  if (!policy.rdma_trusted) {
    return refusedf(
        "--transport rdma needs --rdma-trusted: the fabric does not encrypt, and whoever listens "
        "there reads the VM's memory");
  }
  VMHOP_ASSIGN(auto transport, make_one_sided(policy.bind));
  return transport->usable();
}

Result<std::unique_ptr<OneSidedTransport>> make_one_sided(const std::string& bind) {
  VMHOP_ASSIGN(rdma::BindPolicy policy, rdma::parse_bind_policy(bind));
  return rdma::make_transport(policy);
}

}  // namespace vmhop

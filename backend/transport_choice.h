// By which way a relocation's pages travel.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "backend/base/result.h"

namespace vmhop {

enum class TransportChoice {
  kAuto,  // RDMA where both sides can and may, TCP otherwise
  kRdma,  // RDMA or not at all
  kTcp,
};

// What one side wants, and what it was told of the network.
struct TransportPolicy {
  TransportChoice choice = TransportChoice::kAuto;
  bool rdma_trusted = false;      // RDMA is not encrypted: the fabric must be trusted
  bool on_demand_paging = false;  // the source's memory is not pinned, where the device can
  std::string bind = "auto";      // NUMA: "auto", "none", "node:N"
  bool verify = false;            // every page is compared with a checksum of the source's
  uint64_t bandwidth = 0;         // bytes a second for precaching; 0: no limit
  bool operator==(const TransportPolicy&) const = default;
};

inline const char* transport_choice_name(TransportChoice choice) {
  switch (choice) {
    case TransportChoice::kAuto:
      return "auto";
    case TransportChoice::kRdma:
      return "rdma";
    case TransportChoice::kTcp:
      return "tcp";
  }
  return "auto";
}

inline Result<TransportChoice> parse_transport_choice(const std::string& text) {
  for (auto choice : {TransportChoice::kAuto, TransportChoice::kRdma, TransportChoice::kTcp}) {
    if (text == transport_choice_name(choice)) return choice;
  }
  return refusedf("{} is no transport: auto, rdma or tcp", text);
}

// Between our own processes. Throws what nlohmann::json throws when it is something else.
inline void to_json(nlohmann::json& json, const TransportPolicy& policy) {
  json = {{"choice", transport_choice_name(policy.choice)},
          {"rdma_trusted", policy.rdma_trusted},
          {"on_demand_paging", policy.on_demand_paging},
          {"bind", policy.bind},
          {"verify", policy.verify},
          {"bandwidth", policy.bandwidth}};
}
inline void from_json(const nlohmann::json& json, TransportPolicy& policy) {
  auto choice = parse_transport_choice(json.at("choice").get<std::string>());
  policy.choice = choice ? *choice : TransportChoice::kAuto;
  json.at("rdma_trusted").get_to(policy.rdma_trusted);
  json.at("on_demand_paging").get_to(policy.on_demand_paging);
  json.at("bind").get_to(policy.bind);
  policy.verify = json.value("verify", false);
  policy.bandwidth = json.value("bandwidth", uint64_t{0});
}

}  // namespace vmhop

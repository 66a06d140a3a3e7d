// Hosts and a client on one switch, each a network namespace:
//
//   client ── eth0 ─────────────┐
//   host   ── br0 ── uplink ────┤ switch: br0
//              └── tap0 (guest)  │
//   host   ── …     ─────────────┘
//
// Addresses are 10.77.0.0/24, which exists nowhere but here: two labs do not meet.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "tests/lab/guardian.h"
#include "tests/lab/namespace.h"

namespace vmhop::lab {

struct NetworkSpec {
  std::vector<std::string> hosts = {"source", "destination"};
};

enum class Link { kUp, kDown };

class Network {
 public:
  // Makes it, with a directory of its own, and a guardian over both. Needs root.
  static Result<std::unique_ptr<Network>> create(const NetworkSpec& spec = {});

  // For whatever belongs to this lab: short enough for unix sockets, gone with it.
  const std::string& directory() const { return directory_; }

  const Namespace& host(const std::string& name) const { return hosts_.at(name).space; }
  std::string address(const std::string& name) const { return hosts_.at(name).address; }
  const Namespace& client() const { return *client_; }

  static constexpr const char* kGuestAddress = "10.77.0.100";
  static constexpr const char* kClientInterface = "eth0";
  static constexpr const char* kTap = "tap0";  // in every host

  // Limits a host's link in both directions ("100mbit"), or lifts the limit.
  Status set_rate(const std::string& host, const std::optional<std::string>& rate) const;
  // Pulls a host's cable out at the switch, and puts it back.
  Status set_link(const std::string& host, Link link) const;

 private:
  struct Host {
    Namespace space;
    std::string address;
    std::string port;  // at the switch
  };

  explicit Network(std::string directory) : directory_(std::move(directory)) {}
  Status build(const NetworkSpec& spec);
  Status ip(const Namespace& where, const std::string& commands) const;
  Status shape(const Namespace& where, const std::string& device,
               const std::optional<std::string>& rate) const;

  std::string directory_;
  std::optional<Namespace> switch_;
  std::optional<Namespace> client_;
  std::map<std::string, Host> hosts_;
  Guardian guardian_;  // last in, first out: processes go before the namespaces they are in
};

}  // namespace vmhop::lab

#include "tests/demo/venue.h"
#include "tests/lab/network.h"

namespace vmhop::demo {
namespace {

class NamespaceVenue final : public Venue {
 public:
  NamespaceVenue(std::unique_ptr<lab::Network> network, std::string vmhop)
      : network_(std::move(network)), vmhop_(std::move(vmhop)) {
    conditions_.description = "source, destination and client on one switch";
    conditions_.tap = lab::Network::kTap;
    conditions_.client_interface = lab::Network::kClientInterface;
  }

  const Conditions& conditions() const override { return conditions_; }
  const std::string& directory() const override { return network_->directory(); }
  Result<lab::VmhopHost> host(const std::string& name) const override {
    return lab::VmhopHost::create(*network_, name, vmhop_);
  }
  const lab::Namespace& client() const override { return network_->client(); }
  Result<lab::SharedDisk> make_disk() const override {
    return lab::SharedDisk::create(network_->directory());
  }
  std::string path_for_guest(const lab::SharedDisk& disk) const override { return disk.path(); }

  // Nor anything else: nobody but they ever starts something in a host's namespace.
  Status nothing_runs_on(const lab::VmhopHost& host) const override {
    auto processes = lab::processes_in({network_->host(host.name()).fd()});
    if (processes.empty()) return ok_status();
    return errorf("process {} still runs there", processes.front());
  }

 private:
  std::unique_ptr<lab::Network> network_;
  std::string vmhop_;
  Conditions conditions_;
};

}  // namespace

Result<std::unique_ptr<Venue>> make_namespaces(const std::string& vmhop) {
  VMHOP_ASSIGN(std::unique_ptr<lab::Network> network, lab::Network::create());
  return std::unique_ptr<Venue>(new NamespaceVenue(std::move(network), vmhop));
}

}  // namespace vmhop::demo

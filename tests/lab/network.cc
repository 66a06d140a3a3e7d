#include "tests/lab/network.h"

#include <cerrno>
#include <cstdlib>

#include "tests/lab/process.h"

namespace vmhop::lab {
namespace {

Result<std::string> make_directory() {
  std::string path = "/tmp/vmhop-lab-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return Error::from_errno("mkdtemp " + path, errno);
  return path;
}

}  // namespace

Result<std::unique_ptr<Network>> Network::create(const NetworkSpec& spec) {
  VMHOP_ASSIGN(std::string directory, make_directory());
  std::unique_ptr<Network> network(new Network(directory));
  if (auto built = network->build(spec); !built) {
    return built.error().with("making the lab's network");
  }
  return network;
}

Status Network::build(const NetworkSpec& spec) {
  VMHOP_ASSIGN(switch_, Namespace::create("switch"));
  VMHOP_ASSIGN(client_, Namespace::create("client"));
  std::string ports = "link add br0 type bridge stp_state 0 forward_delay 0\nlink set br0 up\n";
  auto add_port = [&](const std::string& port, const std::string& peer, const Namespace& where) {
    ports += fmt::format(
        "link add {0} type veth peer name {1} netns {2}\nlink set {0} master br0\nlink set {0} "
        "up\n",
        port, peer, where.path());
  };
  add_port("to-client", kClientInterface, *client_);
  for (const std::string& name : spec.hosts) {
    VMHOP_ASSIGN(Namespace space, Namespace::create(name));
    unsigned number = static_cast<unsigned>(hosts_.size()) + 1;
    Host host{std::move(space), fmt::format("10.77.0.{}", number), fmt::format("port-{}", number)};
    add_port(host.port, "uplink", host.space);
    hosts_.emplace(name, std::move(host));
  }

  std::vector<int> spaces = {switch_->fd(), client_->fd()};
  for (const auto& [name, host] : hosts_)
    spaces.push_back(host.space.fd());
  VMHOP_ASSIGN(guardian_, Guardian::start(spaces, directory_));

  VMHOP_TRY(ip(*switch_, ports));
  VMHOP_TRY(ip(*client_, fmt::format("addr add 10.77.0.200/24 dev {0}\nlink set {0} up\n",
                                     kClientInterface)));
  for (const auto& [name, host] : hosts_) {
    VMHOP_TRY(ip(host.space, fmt::format("link add br0 type bridge stp_state 0 forward_delay 0\n"
                                         "tuntap add dev {0} mode tap\n"
                                         "link set {0} master br0\nlink set {0} up\n"
                                         "link set uplink master br0\nlink set uplink up\n"
                                         "addr add {1}/24 dev br0\nlink set br0 up\n",
                                         kTap, host.address)));
  }
  return ok_status();
}

Status Network::ip(const Namespace& where, const std::string& commands) const {
  auto done = run_tool(directory_, {"ip", "-batch", "-"}, &where, commands);
  return done ? ok_status() : Status(done.error().with("namespace " + where.name()));
}

Status Network::set_rate(const std::string& host, const std::optional<std::string>& rate) const {
  VMHOP_TRY(shape(hosts_.at(host).space, "uplink", rate));
  return shape(*switch_, hosts_.at(host).port, rate);
}

Status Network::shape(const Namespace& where, const std::string& device,
                      const std::optional<std::string>& rate) const {
  auto done = rate
                  ? run_tool(directory_, {"tc", "-batch", "-"}, &where,
                             fmt::format("qdisc replace dev {0} root handle 1: htb default 1\n"
                                         "class replace dev {0} parent 1: classid 1:1 htb rate {1} "
                                         "quantum 3000\n",
                                         device, *rate))
                  : run_tool(directory_, {"tc", "qdisc", "del", "dev", device, "root"}, &where);
  return done ? ok_status() : Status(done.error());
}

Status Network::set_link(const std::string& host, Link link) const {
  return ip(*switch_, fmt::format("link set {} {}\n", hosts_.at(host).port,
                                  link == Link::kUp ? "up" : "down"));
}

}  // namespace vmhop::lab

#include "bench/throughput.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/populate.h"
#include "cli/json_access.h"
#include "tests/lab/baremetal_guest.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/throughput.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::Clock;
using lab::within;

constexpr const char* kVm = "vm";
constexpr const char* kInterface = "uplink";
constexpr uint64_t kGuestMib = 16;  // what the guest itself has written
// As many as vmhop precaches by: DestinationRelocation::Options::bulk_lanes.
constexpr unsigned kConnections = 2;
constexpr unsigned kIperfSeconds = 3;

constexpr uint64_t kRestMib = 1024;  // all that is no guest's RAM

// Enough for some seconds of any link.
uint64_t ram_mib_for(const std::string& link) {
  return link == "1gbit" ? 1024 : 2048;
}

// Source to destination, the source connects: as vmhop's pages travel. At the niceness of the
// threads that move those, so that what else the machine does costs both alike.
Result<double> run_iperf3(const lab::VmhopHost& source, const lab::VmhopHost& destination) {
  std::string endpoint = destination.endpoint();
  VMHOP_ASSIGN(lab::Process server,
               destination.start_program(
                   {"nice", "-n", "5", "iperf3", "--server", "--one-off", "--forceflush"}));
  VMHOP_TRY(server.wait_for_out(
      [](auto text) { return text.find("Server listening") != std::string_view::npos; },
      within(10s)));
  VMHOP_ASSIGN(std::string printed,
               source.output_of({"nice", "-n", "5", "iperf3", "--client",
                                 endpoint.substr(0, endpoint.rfind(':')), "--parallel",
                                 fmt::to_string(kConnections), "--time",
                                 fmt::to_string(kIperfSeconds), "--json"}));
  auto report = nlohmann::json::parse(printed, nullptr, false);
  const nlohmann::json::json_pointer rate("/end/sum_received/bits_per_second");
  if (!report.is_object() || !report.contains(rate)) return Error("iperf3 printed " + printed);
  return report[rate].get<double>() / 8e6;
}

// From the first page that arrives to the last one, by the interface's counter: to a few hundredths
// of a second.
Result<QuietMove> relocate(const lab::VmhopHost& source, const lab::VmhopHost& destination,
                           const lab::Namespace& where, const std::vector<std::string>& options) {
  constexpr double kLeast = 16 << 10;  // what the session says to itself is less
  VMHOP_ASSIGN(auto received, lab::Throughput::start(where, kInterface));
  auto asked = Clock::now();
  VMHOP_ASSIGN(lab::Process relocating, source.relocate(kVm, destination.endpoint(), options));
  VMHOP_ASSIGN(lab::Finished finished, lab::finish(relocating, within(300s)));
  if (!finished.status.clean()) return Error("vmhop relocate: " + finished.describe());
  auto busy = received->busy_span(asked, Clock::now(), kLeast);
  if (!busy) return Error("the destination's link carried nothing");
  nlohmann::json report = finished.json();
  auto bytes = static_cast<double>(number_of(report, "bytes"));
  return QuietMove{bytes / 1e6 / lab::seconds_between(busy->from, busy->to),
                   report.value("drained_ms", 0.0) / 1000};
}

// Two hosts, a paused guest at the source whose RAM is populated, and a destination that waits.
struct Stage {
  std::unique_ptr<lab::Network> network;
  std::optional<lab::VmhopHost> source;
  std::optional<lab::VmhopHost> destination;
  std::optional<lab::Process> running;
  std::optional<lab::Process> receiving;
};

Result<Stage> set_stage(const std::string& link, const std::string& vmhop) {
  Stage stage;
  VMHOP_ASSIGN(stage.network, lab::Network::create());
  VMHOP_ASSIGN(stage.source, lab::VmhopHost::create(*stage.network, "source", vmhop));
  VMHOP_ASSIGN(stage.destination, lab::VmhopHost::create(*stage.network, "destination", vmhop));
  const lab::VmhopHost& source = *stage.source;
  if (link != "unlimited") {
    VMHOP_TRY(stage.network->set_rate("source", link));
    VMHOP_TRY(stage.network->set_rate("destination", link));
  }
  lab::BaremetalGuest guest;
  guest.kernel = VMHOP_LAB_BAREMETAL;
  guest.ram_mib = ram_mib_for(link);
  guest.arguments = fmt::format("mib={}", kGuestMib);
  VMHOP_ASSIGN(stage.running, source.run(kVm, guest.qemu_command(source.place())));
  VMHOP_ASSIGN(auto console, lab::GuestConsole::create());
  VMHOP_TRY(console->attach(source.place().console, within(10s)));
  VMHOP_ASSIGN(auto ready, console->wait_for_prefix("BM READY ", within(60s)));
  VMHOP_ASSIGN(auto monitor, source.monitor(within(10s)));
  VMHOP_TRY(monitor.execute("stop"));
  VMHOP_ASSIGN(nlohmann::json status, source.status(kVm));
  VMHOP_ASSIGN(double populated, populate(static_cast<pid_t>(number_of(status, "qemu_pid")),
                                          guest.ram_mib << 20, kGuestMib << 20));
  if (populated < 0.75) return Error("the RAM is not populated");
  VMHOP_ASSIGN(stage.receiving,
               stage.destination->receive(kVm, guest.qemu_command(stage.destination->place())));
  return stage;
}

}  // namespace

Result<LinkRates> measure_throughput(const std::string& link, const std::string& vmhop,
                                     HostMemory& memory) {
  VMHOP_TRY(memory.make_room(2 * ram_mib_for(link) + kRestMib));
  VMHOP_ASSIGN(Stage stage, set_stage(link, vmhop));
  LinkRates rates{};
  VMHOP_ASSIGN(rates.iperf3, run_iperf3(*stage.source, *stage.destination));
  VMHOP_TRY(memory.warm(2 * ram_mib_for(link)));
  VMHOP_ASSIGN(QuietMove move, relocate(*stage.source, *stage.destination,
                                        stage.network->host("destination"), {"--plain-data"}));
  rates.vmhop = move.mb_per_s;
  return rates;
}

Result<QuietMove> measure_quiet_move(const std::string& link, const std::string& vmhop,
                                     HostMemory& memory, const std::vector<std::string>& options) {
  VMHOP_TRY(memory.make_room(2 * ram_mib_for(link) + kRestMib));
  VMHOP_ASSIGN(Stage stage, set_stage(link, vmhop));
  VMHOP_TRY(memory.warm(2 * ram_mib_for(link)));
  return relocate(*stage.source, *stage.destination, stage.network->host("destination"), options);
}

}  // namespace vmhop::bench

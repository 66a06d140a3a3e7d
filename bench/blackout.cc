// Whether the blackout grows with RAM: the same guest with little and with much of it, relocated in
// turns in one run, most of the RAM populated and some of it every other page.
//
//   blackout [--rounds N] [--mib N…] [--plain-data] [--json]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>

#include "bench/populate.h"
#include "cli/json_access.h"
#include "tests/lab/baremetal_guest.h"
#include "tests/lab/blackout.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/network.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::within;

constexpr const char* kVm = "vm";
constexpr uint64_t kGuestMib = 64;  // what the guest itself rewrites and checks all the time

struct Sample {
  double blackout_ms;  // by QEMU's own stamps of STOP and RESUME
  double reported_ms;  // by vmhop
  double drained_ms;
  double populated;
};

Result<Sample> relocate_once(uint64_t ram_mib, bool plain_data) {
  VMHOP_ASSIGN(auto network, lab::Network::create());
  lab::BaremetalGuest guest;
  guest.kernel = VMHOP_LAB_BAREMETAL;
  guest.ram_mib = ram_mib;
  guest.arguments = fmt::format("mib={}", kGuestMib);
  VMHOP_ASSIGN(auto source, lab::VmhopHost::create(*network, "source", VMHOP_LAB_PROGRAM));
  VMHOP_ASSIGN(auto destination,
               lab::VmhopHost::create(*network, "destination", VMHOP_LAB_PROGRAM));
  VMHOP_ASSIGN(auto running, source.run(kVm, guest.qemu_command(source.place())));
  VMHOP_ASSIGN(auto console, lab::GuestConsole::create());
  VMHOP_TRY(console->attach(source.place().console, within(10s)));
  VMHOP_TRY(console->wait_for_prefix("BM PASS", within(60s)).ok()
                ? ok_status()
                : Status(Error("the guest does not run")));
  VMHOP_ASSIGN(nlohmann::json status, source.status(kVm));
  auto qemu = static_cast<pid_t>(number_of(status, "qemu_pid"));
  VMHOP_ASSIGN(double populated, populate(qemu, ram_mib << 20, kGuestMib << 20));

  VMHOP_ASSIGN(auto receiving, destination.receive(kVm, guest.qemu_command(destination.place())));
  VMHOP_TRY(console->attach(destination.place().console, within(10s)));
  VMHOP_ASSIGN(auto source_monitor, source.monitor(within(10s)));
  VMHOP_ASSIGN(auto destination_monitor, destination.monitor(within(10s)));
  std::vector<std::string> options;
  if (plain_data) options.emplace_back("--plain-data");
  VMHOP_ASSIGN(auto relocating, source.relocate(kVm, destination.endpoint(), options));
  VMHOP_ASSIGN(auto finished, lab::finish(relocating, within(300s)));
  if (!finished.status.clean()) return Error(finished.describe());
  VMHOP_ASSIGN(auto seen, lab::read_blackout(source_monitor, destination_monitor));
  nlohmann::json report = finished.json();
  return Sample{std::chrono::duration<double, std::milli>(seen.length()).count(),
                report.value("blackout_ms", 0.0), report.value("drained_ms", 0.0), populated};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Status compare(const std::vector<uint64_t>& sizes, unsigned rounds, bool plain_data, bool json) {
  std::map<uint64_t, std::vector<double>> blackouts;
  std::map<uint64_t, std::vector<double>> drained;
  std::map<uint64_t, double> populated;
  for (unsigned round = 0; round < rounds; ++round) {
    for (uint64_t mib : sizes) {
      VMHOP_ASSIGN(Sample sample, relocate_once(mib, plain_data));
      blackouts[mib].push_back(sample.blackout_ms);
      drained[mib].push_back(sample.drained_ms);
      populated[mib] = sample.populated;
      fmt::print(stderr,
                 "round {}: {:5} MiB, {:.0f} % populated: blackout {:.1f} ms (vmhop says "
                 "{:.1f}), drained {:.0f} ms\n",
                 round + 1, mib, sample.populated * 100, sample.blackout_ms, sample.reported_ms,
                 sample.drained_ms);
    }
  }
  double smallest = median(blackouts[sizes.front()]);
  for (uint64_t mib : sizes) {
    double blackout = median(blackouts[mib]);
    if (json) {
      nlohmann::json line = {{"ram_mib", mib},
                             {"populated", populated[mib]},
                             {"rounds", rounds},
                             {"blackout_ms", blackout},
                             {"drained_ms", median(drained[mib])},
                             {"ratio", blackout / smallest}};
      fmt::print("{}\n", line.dump());
    } else {
      fmt::print(
          "{:5} MiB, {:.0f} % populated: median blackout {:6.1f} ms ({:.2f} x), drained "
          "{:.0f} ms\n",
          mib, populated[mib] * 100, blackout, blackout / smallest, median(drained[mib]));
    }
  }
  return ok_status();
}

}  // namespace
}  // namespace vmhop::bench

int main(int argc, char** argv) {
  CLI::App app("Whether the blackout grows with RAM; needs root, for network namespaces");
  unsigned rounds = 5;
  std::vector<uint64_t> sizes{512, 4096};
  bool plain_data = false;
  bool json = false;
  app.add_option("--rounds", rounds, "Relocations of each size")->capture_default_str();
  app.add_option("--mib", sizes, "Sizes of RAM in MiB")->capture_default_str();
  app.add_flag("--plain-data", plain_data, "Do not encrypt page data");
  app.add_flag("--json", json, "One JSON object a size");
  CLI11_PARSE(app, argc, argv);
  if (auto done = vmhop::bench::compare(sizes, rounds, plain_data, json); !done) {
    fmt::print(stderr, "blackout: {}\n", done.error().message());
    return 1;
  }
  return 0;
}

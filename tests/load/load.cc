// Many VMs relocating at once, in both directions; and what is left behind after many relocations.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/load/fleet.h"
#include "tests/load/leftovers.h"

namespace vmhop::load {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kRamMib = 32;
// For a process that has just been told to end.
constexpr auto kSettles = 20s;

struct Options {
  unsigned vms = 16;
  unsigned hops = 200;
  double minutes = 0;
  bool json = false;
};

Status no_strays(const Fleet& fleet) {
  auto deadline = lab::within(kSettles);
  for (;;) {
    std::vector<std::string> strays = fleet.strays();
    if (strays.empty()) return ok_status();
    if (lab::milliseconds_until(deadline) == 0) return Error("left behind: " + strays.front());
    std::this_thread::sleep_for(100ms);
  }
}

// MiB/s of RAM that arrived.
Result<double> rate_of(Fleet& fleet, double mib) {
  VMHOP_ASSIGN(auto took, fleet.hop(true));
  VMHOP_TRY(fleet.verify());
  return mib / took.count();
}

// All at once against one alone that has as much memory.
Status many_at_once(const Options& options, nlohmann::json& report) {
  double mib = static_cast<double>(options.vms * kRamMib);
  double alone = 0;
  {
    VMHOP_ASSIGN(auto one, Fleet::create());
    VMHOP_TRY(one->add(0, options.vms * kRamMib));
    VMHOP_ASSIGN(alone, rate_of(*one, mib));
  }
  VMHOP_ASSIGN(auto fleet, Fleet::create());
  for (unsigned i = 0; i < options.vms; ++i)
    VMHOP_TRY(fleet->add(i % 2, kRamMib));
  VMHOP_ASSIGN(double together, rate_of(*fleet, mib));
  // ... and while they run, on the CPUs that there are.
  VMHOP_TRY(fleet->hop(false));
  VMHOP_TRY(fleet->verify());
  VMHOP_TRY(no_strays(*fleet));
  report["vms"] = options.vms;
  report["alone_mib_s"] = alone;
  report["together_mib_s"] = together;
  report["ratio"] = together / alone;
  return ok_status();
}

// There and back again, and an attempt in vain each time; after the first round nothing may grow.
Status many_times(const Options& options, nlohmann::json& report) {
  VMHOP_ASSIGN(auto fleet, Fleet::create());
  VMHOP_TRY(fleet->add(0, kRamMib));
  // One that stays, and tries: its supervisor and its QEMU are compared.
  VMHOP_ASSIGN(auto resident, Fleet::create());
  VMHOP_TRY(resident->add(0, kRamMib));
  VMHOP_TRY(fleet->hop(false));
  VMHOP_TRY(resident->attempt_in_vain());
  VMHOP_ASSIGN(auto residents, resident->pids());
  VMHOP_ASSIGN(Belongings before, look_at(residents));
  auto deadline = lab::within(std::chrono::duration_cast<lab::Clock::duration>(
      std::chrono::duration<double, std::ratio<60>>(options.minutes)));
  unsigned hops = 1;
  while (hops < options.hops || lab::milliseconds_until(deadline) > 0) {
    VMHOP_TRY(fleet->hop(hops % 2 == 0));
    VMHOP_TRY(resident->attempt_in_vain());
    ++hops;
    if (hops % 10 == 0) {
      VMHOP_TRY(fleet->verify());
      fmt::print(stderr, "{} relocations\n", hops);
    }
  }
  VMHOP_TRY(fleet->verify());
  VMHOP_TRY(resident->verify());
  VMHOP_TRY(no_strays(*fleet));
  VMHOP_TRY(no_strays(*resident));
  VMHOP_ASSIGN(Belongings after, look_at(residents));
  for (const std::string& more : grown(before, after))
    return errorf("after {} relocations and as many attempts in vain: {}", hops, more);
  report["relocations"] = hops;
  return ok_status();
}

int load_main(int argc, char** argv) {
  Options options;
  CLI::App app("Relocates many VMs at once, in both directions, and one VM many times.",
               "vmhop-load");
  app.add_option("--vms", options.vms, "How many at once")->capture_default_str();
  app.add_option("--hops", options.hops, "How many times")->capture_default_str();
  app.add_option("--minutes", options.minutes, "... and for at least so long");
  app.add_flag("--json", options.json, "End with one line of JSON");
  CLI11_PARSE(app, argc, argv);
  if (::geteuid() != 0) {
    fmt::print(stderr, "vmhop-load: the lab makes network namespaces: run it as root\n");
    return 2;
  }
  nlohmann::json report = nlohmann::json::object();
  Status done = many_at_once(options, report);
  if (done) done = many_times(options, report);
  if (!done) {
    fmt::print(stderr, "vmhop-load: {}\n", done.error().message());
    return 1;
  }
  if (options.json) {
    fmt::print("{}\n", report.dump());
  } else {
    fmt::print(
        "{} VMs at once: {:.0f} MiB/s, one alone {:.0f} MiB/s ({:.2f}); {} relocations left "
        "nothing behind\n",
        options.vms, report["together_mib_s"].get<double>(), report["alone_mib_s"].get<double>(),
        report["ratio"].get<double>(), report["relocations"].get<unsigned>());
  }
  return 0;
}

}  // namespace
}  // namespace vmhop::load

int main(int argc, char** argv) {
  return vmhop::load::load_main(argc, argv);
}

#include "bench/round.h"

#include <algorithm>
#include <thread>

#include "bench/costs.h"
#include "bench/populate.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::Clock;
using lab::seconds_between;
using lab::within;

constexpr auto kWarmUp = 1s;
constexpr auto kBaseline = 4s;
constexpr auto kAfterwards = 4s;
// Throughput counts as back when it was for so long.
constexpr auto kSteady = 1s;
constexpr auto kStep = 20ms;
// Of the throughput over time: no finer than it is sampled, with something to average.
constexpr auto kSeriesStep = 50ms;
constexpr double kRecovered = 0.95;
constexpr double kLeastPopulated = 0.75;
constexpr uint64_t kRestMib = 1024;  // all that is no guest's RAM

// The guest stands still meanwhile: what it touches first is its own then.
Status fill_ram(Mover& mover, pid_t qemu, const RoundSpec& spec, uint64_t from) {
  VMHOP_TRY(mover.source_monitor().execute("stop"));
  VMHOP_ASSIGN(double populated, populate(qemu, spec.workload.ram_mib << 20, from));
  VMHOP_TRY(mover.source_monitor().execute("cont"));
  if (populated >= kLeastPopulated) return ok_status();
  return errorf("only {:.0f} % of the RAM are populated", populated * 100);
}

// The guest is in this machine's memory twice once it is drained, and somewhat more than once where
// its relocation is broken off.
uint64_t needed_mib(const RoundSpec& spec) {
  uint64_t ram_mib = spec.workload.ram_mib;
  return ram_mib + (spec.until == Until::kDrained ? ram_mib : ram_mib / 4) + kRestMib;
}

struct Timeline {
  Move move;
  Clock::time_point baseline_from;
  Clock::time_point ended;  // of all watching
};

// What became of the throughput: how much was lost until it was back. What comes later is this
// machine's noise, and there can be much time for it.
void take_work(const Workload::Rate& rate, const Timeline& when, Figures& figures) {
  double before = rate(when.baseline_from, when.move.asked);
  if (before <= 0) return;
  figures.before = before;
  auto back = when.ended;
  auto from = when.move.moved ? when.move.resumed : when.move.completed;
  for (auto at = from; at + kSteady <= when.ended; at += kStep) {
    if (rate(at, at + kSteady) < kRecovered * before) continue;
    back = at;
    break;
  }
  // Not back while somebody watched: "at least so long".
  if (when.move.moved) figures.recovered_s = std::max(0.0, seconds_between(from, back));
  if (!when.move.moved) back = from;
  figures.throughput = in_steps(rate, {from, when.baseline_from, when.ended}, kSeriesStep);
  figures.lost_s =
      (1 - rate(when.move.asked, back) / before) * seconds_between(when.move.asked, back);
}

Figures figures_of(const Move& move, const Costs& costs, const std::string& mode) {
  Figures figures;
  figures.total_s = seconds_between(move.asked, move.completed);
  if (move.moved) {
    figures.blackout_ms = lab::milliseconds(move.resumed - move.stopped);
    figures.drained_s = std::max(0.0, seconds_between(move.resumed, move.completed));
  }
  figures.wire_mib = costs.wire_mib;
  figures.source_cpu_s = costs.cpu_s[0];
  figures.destination_cpu_s = costs.cpu_s[1];
  if (base_mode(mode) != "vmhop") return figures;
  figures.overhead_mib = std::max(costs.vmhop_mib[0], costs.vmhop_mib[1]);
  figures.page_tables_mib =
      std::max(costs.vmhop_page_tables_mib[0], costs.vmhop_page_tables_mib[1]);
  return figures;
}

}  // namespace

Result<Figures> run_round(const RoundSpec& spec, HostMemory& memory) {
  VMHOP_TRY(memory.make_room(needed_mib(spec)));
  VMHOP_ASSIGN(auto network, lab::Network::create());
  VMHOP_ASSIGN(auto source, lab::VmhopHost::create(*network, "source", spec.vmhop));
  VMHOP_ASSIGN(auto destination, lab::VmhopHost::create(*network, "destination", spec.vmhop));
  if (spec.link != "unlimited") {
    VMHOP_TRY(network->set_rate("source", spec.link));
    VMHOP_TRY(network->set_rate("destination", spec.link));
  }
  VMHOP_ASSIGN(auto workload, make_workload(spec.workload, network->directory()));
  GuestCommand guest = [&](const lab::QemuPlace& place) { return workload->qemu_command(place); };

  auto mover = make_mover(spec.mode, source, destination, spec.workload.ram_mib);
  VMHOP_ASSIGN(pid_t qemu, mover->start_source(guest));
  VMHOP_ASSIGN(auto console, lab::GuestConsole::create());
  VMHOP_TRY(console->attach(source.place().console, within(10s)));
  VMHOP_TRY(workload->wait_until_ready(*console));
  VMHOP_TRY(fill_ram(*mover, qemu, spec, workload->fill_from()));
  VMHOP_TRY(mover->prepare_destination(guest));
  if (spec.until == Until::kDrained) VMHOP_TRY(memory.warm(2 * spec.workload.ram_mib));
  VMHOP_TRY(console->attach(destination.place().console, within(10s)));
  VMHOP_TRY(workload->start_load(*network));

  bool has_work = workload->rate(*console) != nullptr;
  std::this_thread::sleep_for(kWarmUp);
  if (spec.until == Until::kResumed) {
    VMHOP_ASSIGN(Move move, mover->relocate(spec.until));
    if (!move.moved) return Figures{};
    Figures figures;
    figures.blackout_ms = lab::milliseconds(move.resumed - move.stopped);
    return figures;
  }

  Timeline when;
  when.baseline_from = Clock::now();
  if (has_work) std::this_thread::sleep_for(kBaseline);
  VMHOP_ASSIGN(auto meter, CostMeter::start(*network, source, destination));
  VMHOP_ASSIGN(when.move, mover->relocate(spec.until));
  VMHOP_ASSIGN(Costs costs, meter->stop());
  if (has_work) std::this_thread::sleep_for(kAfterwards);
  when.ended = Clock::now();

  Figures figures = figures_of(when.move, costs, spec.mode);
  if (auto rate = workload->rate(*console)) take_work(rate, when, figures);
  // A little longer: a request that was asked before the end is answered after it.
  auto gap = workload->longest_gap(*console, when.move.asked, when.move.completed + kSteady);
  if (gap) figures.gap_ms = lab::milliseconds(*gap);
  VMHOP_TRY(workload->stop_load());
  return figures;
}

}  // namespace vmhop::bench

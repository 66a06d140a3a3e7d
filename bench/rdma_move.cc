// vmhop's RDMA and QEMU's own, side by side: a bare-metal guest moves between two User Mode Linuxes
// with Soft-RoCE, in turns in one run.
//
//   ci/rxe-lab --hosts 2 -- build/release/bench/rdma_move [--workload NAME…] [--mode NAME…]
//     [--rounds N] [--mib N] [--json]
//
// (with VMHOP_LAB_AGENT=build/release/tests/lab/vmhop-lab-agent)
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's

#include <CLI/CLI.hpp>
#include <filesystem>

#include "bench/figures.h"
#include "bench/movers.h"
#include "bench/workloads.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::Clock;
using lab::within;

// Everything in a User Mode Linux takes many times as long as elsewhere.
constexpr auto kPatience = 120s;
constexpr auto kWarmUp = 1s;
constexpr auto kBaseline = 3s;

const std::vector<std::string> kWorkloads = {"idle", "writer"};
const std::vector<std::string> kModes = {"vmhop-rdma", "precopy-rdma"};

struct Options {
  std::vector<std::string> workloads = kWorkloads;
  std::vector<std::string> modes = kModes;
  unsigned rounds = 3;
  uint64_t ram_mib = 128;
  uint64_t writer_mib_per_second = 20;
  std::string vmhop = VMHOP_LAB_PROGRAM;
  bool json = false;
};

// For the files of one round; both hosts see it.
class ScratchDirectory {
 public:
  static Result<ScratchDirectory> create() {
    std::string path = "/tmp/vmhop-bench-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return Error::from_errno("mkdtemp", errno);
    return ScratchDirectory(std::move(path));
  }
  ScratchDirectory(ScratchDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchDirectory& operator=(ScratchDirectory&&) = delete;
  ~ScratchDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  explicit ScratchDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

std::unique_ptr<Mover> mover_of(const std::string& mode, const lab::VmhopHost& source,
                                const lab::VmhopHost& destination, uint64_t ram_mib) {
  if (mode == "vmhop-rdma") return make_vmhop_mover(PageData::kByRdma, source, destination);
  return make_qemu_mover(QemuMode::kPrecopy, PageData::kByRdma, source, destination, ram_mib);
}

// The time stamps are of QEMUs on two kernels, which both took this machine's time when they
// booted.
Figures figures_of(const Move& move) {
  Figures figures;
  figures.total_s = lab::seconds_between(move.asked, move.completed);
  if (move.moved) {
    figures.blackout_ms = lab::milliseconds(move.resumed - move.stopped);
    figures.drained_s = std::max(0.0, lab::seconds_between(move.resumed, move.completed));
  }
  return figures;
}

Result<Figures> run_round(const Cell& cell, const Options& options) {
  VMHOP_ASSIGN(auto from, lab::UmlHost::find("source"));
  VMHOP_ASSIGN(auto to, lab::UmlHost::find("destination"));
  VMHOP_ASSIGN(auto directory, ScratchDirectory::create());
  VMHOP_ASSIGN(auto source, lab::VmhopHost::create(from, directory.path(), options.vmhop));
  VMHOP_ASSIGN(auto destination, lab::VmhopHost::create(to, directory.path(), options.vmhop));
  auto workload =
      make_writer(options.ram_mib, cell.workload == "idle" ? 0 : options.writer_mib_per_second);

  auto mover = mover_of(cell.mode, source, destination, options.ram_mib);
  VMHOP_ASSIGN(auto console, lab::GuestConsole::create());
  // Not before somebody listens to what it says when it is ready.
  auto paused = [&](const lab::QemuPlace& place) {
    auto command = workload->qemu_command(place);
    command.emplace_back("-S");
    return command;
  };
  VMHOP_TRY(mover->start_source(paused));
  VMHOP_TRY(console->attach(source.place().console, within(kPatience)));
  VMHOP_TRY(mover->source_monitor().execute("cont"));
  VMHOP_TRY(workload->wait_until_ready(*console));
  VMHOP_TRY(mover->prepare_destination(
      [&](const lab::QemuPlace& place) { return workload->qemu_command(place); }));
  VMHOP_TRY(console->attach(destination.place().console, within(kPatience)));

  std::this_thread::sleep_for(kWarmUp);
  auto baseline_from = Clock::now();
  std::this_thread::sleep_for(kBaseline);
  VMHOP_ASSIGN(Move move, mover->relocate(Until::kDrained));
  Figures figures = figures_of(move);
  if (auto rate = workload->rate(*console)) figures.before = rate(baseline_from, move.asked);
  auto gap = workload->longest_gap(*console, move.asked, move.completed);
  if (gap) figures.gap_ms = lab::milliseconds(*gap);
  return figures;
}

// A kernel in which a move failed may keep a process that waits for its RDMA device, and with it
// the port that the next one needs.
Status boot_again() {
  for (const char* name : {"source", "destination"}) {
    VMHOP_ASSIGN(auto host, lab::UmlHost::find(name));
    VMHOP_TRY(host.kill());
    VMHOP_TRY(host.boot(within(kPatience)));
  }
  return ok_status();
}

// A round that fails is told and left out: the others still say something.
bool measure(Cell& cell, const Options& options, unsigned round) {
  auto figures = run_round(cell, options);
  if (!figures) {
    fmt::print(stderr, "rdma_move: {} {} round {}: {}\n", cell.workload, cell.mode, round + 1,
               figures.error().message());
    if (auto booted = boot_again(); !booted)
      fmt::print(stderr, "rdma_move: {}\n", booted.error().message());
    return false;
  }
  fmt::print(stderr, "{} {} round {}: blackout_ms {:.1f} total_s {:.2f}\n", cell.workload,
             cell.mode, round + 1, figures->blackout_ms.value_or(0), *figures->total_s);
  cell.rounds.push_back(*figures);
  return true;
}

int run(const Options& options) {
  std::vector<Cell> cells;
  for (const auto& workload : options.workloads) {
    for (const auto& mode : options.modes)
      cells.push_back({workload, "rxe", mode, options.ram_mib, {}});
  }
  bool all = true;
  for (unsigned round = 0; round < options.rounds; ++round) {
    for (Cell& cell : cells)
      all = measure(cell, options, round) && all;
  }
  if (options.json) {
    for (const auto& line : cell_lines(cells))
      fmt::print("{}\n", line.dump());
  } else {
    print_table(cells);
  }
  return all ? 0 : 1;
}

}  // namespace
}  // namespace vmhop::bench

int main(int argc, char** argv) {
  using namespace vmhop::bench;
  CLI::App app("Relocates a bare-metal guest by vmhop's RDMA and by QEMU's, in turns");
  Options options;
  app.add_option("--workload", options.workloads, "What the guest does: idle, writer")
      ->check(CLI::IsMember(kWorkloads))
      ->capture_default_str();
  app.add_option("--mode", options.modes, "vmhop-rdma, precopy-rdma")
      ->check(CLI::IsMember(kModes))
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "Relocations of each kind")->capture_default_str();
  app.add_option("--mib", options.ram_mib, "The guest's RAM in MiB, of which it uses half")
      ->check(CLI::Range(64, 512))
      ->capture_default_str();
  app.add_option("--writer-rate", options.writer_mib_per_second,
                 "MiB of pages that the writer rewrites in a second")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--json", options.json, "One JSON object a line");
  CLI11_PARSE(app, argc, argv);
  return run(options);
}

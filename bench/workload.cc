#include "bench/workload.h"

#include <x86intrin.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "tests/lab/baremetal_guest.h"
#include "tests/lab/http_probe.h"
#include "tests/lab/linux_guest.h"
#include "tests/lab/throughput.h"
#include "tests/lab/witness_log.h"
#include "tests/lab/wrk.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::Clock;
using lab::within;

// Threads of QEMU get names, so that the guest's own CPU time can be told from what moving it
// costs.
constexpr uint64_t kPagesPerMib = 256;
constexpr const char* kName = "guest,debug-threads=on";

// nginx, asked for a page by wrk all the time and by a probe that measures its silence.
class Web final : public Workload {
 public:
  Web(const WorkloadSpec& spec, std::string image) : image_(std::move(image)) {
    guest_.image = image_;
    guest_.ram_mib = spec.ram_mib;
    guest_.witness_mib = 64;
    guest_.tap = lab::Network::kTap;
    guest_.name = kName;
  }

  std::vector<std::string> qemu_command(const lab::QemuPlace& place) const override {
    return guest_.qemu_command(place);
  }
  Status wait_until_ready(const lab::GuestConsole& console) const override {
    VMHOP_ASSIGN(lab::Line ready, console.wait_for_prefix("READY ", within(180s)));
    if (lab::field(ready.text, "nginx") == 1) return ok_status();
    return Error("nginx does not run in the guest: " + ready.text);
  }
  uint64_t fill_from() const override { return uint64_t{1} << 20; }

  Status start_load(const lab::Network& network) override {
    lab::ProbeSpec probe;
    probe.address = lab::Network::kGuestAddress;
    probe.www = image_ + "/www";
    VMHOP_ASSIGN(probe_, lab::HttpProbe::start(network.client(), probe));
    VMHOP_TRY(probe_->wait_for_answers(10, within(30s)));
    VMHOP_ASSIGN(
        wrk_, lab::Wrk::start(network.client(), fmt::format("http://{}/16k.txt", probe.address), 8,
                              network.directory() + "/wrk"));
    VMHOP_ASSIGN(throughput_,
                 lab::Throughput::start(network.client(), lab::Network::kClientInterface));
    return ok_status();
  }
  Rate rate(const lab::GuestConsole& /*console*/) const override {
    return
        [this](auto from, auto to) { return throughput_->bytes_per_second(from, to) / (1 << 20); };
  }
  std::optional<Clock::duration> longest_gap(const lab::GuestConsole& /*console*/,
                                             Clock::time_point from,
                                             Clock::time_point to) const override {
    return probe_->longest_gap(from, to);
  }
  Status stop_load() override {
    VMHOP_ASSIGN(lab::WrkSummary wrk, wrk_->stop());
    lab::ProbeReport probe = probe_->report();
    if (wrk.failed() + probe.failed == 0) return ok_status();
    return errorf("{} of wrk's requests and {} of the probe's failed", wrk.failed(), probe.failed);
  }

 private:
  std::string image_;
  lab::LinuxGuest guest_;
  std::unique_ptr<lab::HttpProbe> probe_;
  std::optional<lab::Wrk> wrk_;
  std::unique_ptr<lab::Throughput> throughput_;
};

// How many pages the writer had written, and when it said so.
constexpr double kMostBetweenLines = 1e5;
struct Progress {
  Clock::time_point at;
  double pages;
};

std::vector<Progress> read_progress(const lab::GuestConsole& console) {
  constexpr std::string_view kWrote = "BM WROTE ";
  std::vector<Progress> progress;
  for (const lab::Line& line : console.log().lines()) {
    if (!line.text.starts_with(kWrote)) continue;
    double pages = std::strtod(line.text.c_str() + kWrote.size(), nullptr);
    // QEMU may lose some of a line at the switch: a number that makes no sense is none.
    double last = progress.empty() ? 0 : progress.back().pages;
    if (pages < last || pages > last + kMostBetweenLines) continue;
    progress.push_back({line.at, pages});
  }
  return progress;
}

double pages_at(const std::vector<Progress>& progress, Clock::time_point at) {
  auto after = std::lower_bound(progress.begin(), progress.end(), at,
                                [](const Progress& one, auto time) { return one.at < time; });
  if (after == progress.begin()) return after->pages;
  if (after == progress.end()) return progress.back().pages;
  auto before = std::prev(after);
  double part = lab::seconds_between(before->at, at) / lab::seconds_between(before->at, after->at);
  return before->pages + part * (after->pages - before->pages);
}

uint64_t tsc_khz() {
  auto since = Clock::now();
  uint64_t from = __rdtsc();
  std::this_thread::sleep_for(200ms);
  double ticks = static_cast<double>(__rdtsc() - from);
  return static_cast<uint64_t>(ticks / lab::milliseconds(Clock::now() - since));
}

// Of the RAM of a large guest: it takes seconds to write a GiB, and its addresses end below 3 GiB.
constexpr uint64_t kMostWrittenMib = 1024;

// The bare-metal guest: rewrites half of its RAM in random order at a rate, or (rate 0) touches
// nothing and spins, since it runs where it may not halt.
class Writer final : public Workload {
 public:
  Writer(uint64_t ram_mib, uint64_t mib_per_second)
      : written_mib_(std::min(ram_mib / 2, kMostWrittenMib)), writes_(mib_per_second > 0) {
    guest_.kernel = VMHOP_LAB_BAREMETAL;
    guest_.ram_mib = ram_mib;
    guest_.name = kName;
    guest_.arguments = fmt::format("mode=random mib={} rate={} tsc_khz={}", written_mib_,
                                   mib_per_second * kPagesPerMib, tsc_khz());
  }

  std::vector<std::string> qemu_command(const lab::QemuPlace& place) const override {
    return guest_.qemu_command(place);
  }
  Status wait_until_ready(const lab::GuestConsole& console) const override {
    auto ready = console.wait_for_prefix("BM READY ", within(120s));
    return ready ? ok_status() : Status(ready.error());
  }
  uint64_t fill_from() const override { return written_mib_ << 20; }

  Status start_load(const lab::Network& /*network*/) override { return ok_status(); }
  Rate rate(const lab::GuestConsole& console) const override {
    if (!writes_) return nullptr;
    return [progress = read_progress(console)](auto from, auto to) {
      if (progress.empty()) return 0.0;
      double pages = pages_at(progress, to) - pages_at(progress, from);
      return pages / kPagesPerMib / lab::seconds_between(from, to);
    };
  }
  std::optional<Clock::duration> longest_gap(const lab::GuestConsole& console,
                                             Clock::time_point from,
                                             Clock::time_point to) const override {
    if (!writes_) return std::nullopt;
    Clock::duration longest{};
    std::optional<Clock::time_point> last;
    for (const Progress& one : read_progress(console)) {
      if (last && one.at >= from && *last <= to) longest = std::max(longest, one.at - *last);
      last = one.at;
    }
    return longest;
  }
  Status stop_load() override { return ok_status(); }

 private:
  lab::BaremetalGuest guest_;
  uint64_t written_mib_;
  bool writes_;
};

}  // namespace

Result<std::unique_ptr<Workload>> make_workload(const WorkloadSpec& spec,
                                                const std::string& directory) {
  if (spec.name == "web") {
    VMHOP_ASSIGN(std::string image, lab::find_guest_image(VMHOP_LAB_SOURCES, directory));
    return std::unique_ptr<Workload>(new Web(spec, std::move(image)));
  }
  uint64_t rate = spec.name == "idle" ? 0 : spec.writer_mib_per_second;
  return std::unique_ptr<Workload>(new Writer(spec.ram_mib, rate));
}

}  // namespace vmhop::bench

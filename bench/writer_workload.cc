#include <x86intrin.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "bench/workloads.h"
#include "tests/lab/baremetal_guest.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::Clock;
using lab::within;

constexpr uint64_t kPagesPerMib = 256;

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
    guest_.name = kGuestName;
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

std::unique_ptr<Workload> make_writer(uint64_t ram_mib, uint64_t mib_per_second) {
  return std::make_unique<Writer>(ram_mib, mib_per_second);
}

}  // namespace vmhop::bench

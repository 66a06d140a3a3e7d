// What the page source costs beside bare verbs: each figure is a ratio within one run. Both ends
// are in this program, on the RDMA device at VMHOP_RDMA_ADDRESS; where there is none:
//
//   ci/rxe-lab -- build/release/bench/rdma_read
#include <fmt/format.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "bench/rdma_readers.h"

namespace vmhop::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Samples = std::vector<double>;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kBulkRead = 256 << 10;  // as the precacher's
constexpr uint64_t kBulkWindow = 1 << 20;  // bytes outstanding, as the precacher's
constexpr uint64_t kBulkPiece = 64 << 10;  // as the page source's
constexpr size_t kBulkRounds = 9;

double quantile(Samples samples, double share) {
  std::sort(samples.begin(), samples.end());
  return samples[static_cast<size_t>(share * static_cast<double>(samples.size() - 1))];
}
double median(const Samples& samples) {
  return quantile(samples, 0.5);
}
double since_us(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// On one CPU the kernel's side of Soft-RoCE needs it too.
Status yield_cpu(Reader&) {
  ::sched_yield();
  return ok_status();
}
// As the pager's threads do on one CPU.
Status sleep_in(Reader& reader) {
  return reader.sleep();
}
using Wait = Status (*)(Reader&);

Result<double> read_page(Reader& reader, uint64_t offset, Wait wait) {
  auto start = Clock::now();
  VMHOP_TRY(reader.post(offset, kPage));
  for (;;) {
    VMHOP_ASSIGN(uint64_t bytes, reader.poll());
    if (bytes > 0) return since_us(start);
    VMHOP_TRY(wait(reader));
  }
}
uint64_t scattered(const BenchPair& pair, size_t i) {
  return (i * 977 % pair.pages()) * kPage;
}

// All memory once, unless stopped; MB/s.
struct Bulk {
  uint64_t read = 0;  // posted at once
  uint64_t window = kBulkWindow;
  const std::atomic<bool>* stop = nullptr;
  Wait wait = yield_cpu;
};
Result<double> read_all(Reader& reader, uint64_t bytes, const Bulk& bulk) {
  auto start = Clock::now();
  uint64_t posted = 0;
  uint64_t done = 0;
  auto stopped = [&] { return bulk.stop != nullptr && *bulk.stop; };
  while (done < posted || (posted < bytes && !stopped())) {
    while (posted < bytes && !stopped() && posted - done + bulk.read <= bulk.window) {
      VMHOP_TRY(reader.post(posted, bulk.read));
      posted += bulk.read;
    }
    VMHOP_ASSIGN(uint64_t arrived, reader.poll());
    done += arrived;
    if (arrived == 0 && done < posted) VMHOP_TRY(bulk.wait(reader));
  }
  return static_cast<double>(done) / since_us(start);
}

struct Both {
  Samples bare;
  Samples source;
};

// One page at a time, by turns: what disturbs one disturbs the other.
Result<Both> measure_single(BenchPair& pair, size_t rounds) {
  VMHOP_ASSIGN(auto source, source_reader(pair, 0));
  VMHOP_ASSIGN(auto bare, bare_reader(pair, 1));
  Both samples;
  for (size_t i = 0; i < rounds; ++i) {
    VMHOP_ASSIGN(double by_hand, read_page(*bare, scattered(pair, i), yield_cpu));
    VMHOP_ASSIGN(double by_source, read_page(*source, scattered(pair, i), yield_cpu));
    samples.bare.push_back(by_hand);
    samples.source.push_back(by_source);
  }
  return samples;
}

Result<Both> measure_bulk(BenchPair& pair) {
  VMHOP_ASSIGN(auto source, source_reader(pair, 2));
  VMHOP_ASSIGN(auto bare, bare_reader(pair, 3));
  Both rates;
  for (size_t i = 0; i < kBulkRounds; ++i) {
    VMHOP_ASSIGN(double by_hand, read_all(*bare, pair.bytes(), {kBulkPiece}));
    VMHOP_ASSIGN(double by_source, read_all(*source, pair.bytes(), {kBulkRead}));
    rates.bare.push_back(by_hand);
    rates.source.push_back(by_source);
  }
  return rates;
}

// Pages read while another thread reads all memory again and again (or not: a window of 0). Both
// sleep for what they wait for.
Result<Samples> measure_faults(BenchPair& pair, Reader& faults, Reader& bulk, size_t rounds,
                               const Bulk& load) {
  std::atomic<bool> stop{load.window == 0};
  Status bulk_failed;
  std::thread loader([&] {
    Bulk stoppable = load;
    stoppable.stop = &stop;
    stoppable.wait = sleep_in;
    while (!stop && bulk_failed.ok()) {
      if (auto rate = read_all(bulk, pair.bytes(), stoppable); !rate) bulk_failed = rate.error();
    }
  });
  Samples samples;
  Status fault_failed;
  for (size_t i = 0; i < rounds && fault_failed.ok(); ++i) {
    auto took = read_page(faults, scattered(pair, i), sleep_in);
    if (took) samples.push_back(*took);
    if (!took) fault_failed = took.error();
  }
  stop = true;
  loader.join();
  VMHOP_TRY(fault_failed);
  VMHOP_TRY(bulk_failed);
  return samples;
}

// A fault read alone, and beside bulk reads with ever more bytes outstanding: bare verbs show what
// the device makes of it.
Result<nlohmann::json> fault_rows(uint64_t bytes, size_t rounds) {
  VMHOP_ASSIGN(auto pair, BenchPair::create(bytes, 4));
  VMHOP_ASSIGN(auto source_faults, source_reader(*pair, 0));
  VMHOP_ASSIGN(auto source_bulk, source_reader(*pair, 1));
  VMHOP_ASSIGN(auto bare_faults, bare_reader(*pair, 2));
  VMHOP_ASSIGN(auto bare_bulk, bare_reader(*pair, 3));
  auto rows = nlohmann::json::array();
  for (uint64_t window : {uint64_t{0}, kBulkPiece, kBulkRead, kBulkWindow, 2 * kBulkWindow}) {
    VMHOP_ASSIGN(Samples bare,
                 measure_faults(*pair, *bare_faults, *bare_bulk, rounds, {kBulkPiece, window}));
    VMHOP_ASSIGN(Samples source, measure_faults(*pair, *source_faults, *source_bulk, rounds,
                                                {std::min(window, kBulkRead), window}));
    rows.push_back({{"outstanding", window},
                    {"bare_p50_us", median(bare)},
                    {"bare_p99_us", quantile(bare, 0.99)},
                    {"source_p50_us", median(source)},
                    {"source_p99_us", quantile(source, 0.99)}});
  }
  return rows;
}

void print(const nlohmann::json& report) {
  auto number = [](const nlohmann::json& object, const char* key) {
    return object[key].get<double>();
  };
  fmt::print(stderr,
             "                          bare      page source   ratio    to reach\n"
             "4 KiB page, median    {:8.1f} µs  {:8.1f} µs   {:6.3f}   <= 1.1\n"
             "bulk reads            {:8.1f} MB/s{:8.1f} MB/s {:6.3f}   >= 0.95\n"
             "registered/populated                         {:9.3f}   <= 1.05\n"
             "\n"
             "fault read beside            bare                page source\n"
             "bulk outstanding       p50        p99        p50        p99\n",
             number(report, "page_bare_us"), number(report, "page_source_us"),
             number(report, "page_ratio"), number(report, "bulk_bare_mb_s"),
             number(report, "bulk_source_mb_s"), number(report, "bulk_ratio"),
             number(report, "registered_ratio"));
  for (const auto& row : report["faults"]) {
    fmt::print(stderr, "{:11} KiB {:8.1f} µs{:8.1f} µs{:8.1f} µs{:8.1f} µs\n",
               row["outstanding"].get<uint64_t>() >> 10, number(row, "bare_p50_us"),
               number(row, "bare_p99_us"), number(row, "source_p50_us"),
               number(row, "source_p99_us"));
  }
  fmt::print(stderr, "one bulk piece of {} KiB takes {:.1f} µs\n", kBulkPiece >> 10,
             number(report, "bulk_piece_us"));
}

Status run(uint64_t mib, size_t rounds, bool as_json) {
  nlohmann::json report;
  {
    VMHOP_ASSIGN(auto pair, BenchPair::create(mib << 20, 4));
    VMHOP_ASSIGN(Both page, measure_single(*pair, rounds));
    report["page_bare_us"] = median(page.bare);
    report["page_source_us"] = median(page.source);
    report["page_ratio"] = median(page.source) / median(page.bare);
    VMHOP_ASSIGN(Both bulk, measure_bulk(*pair));
    report["bulk_bare_mb_s"] = median(bulk.bare);
    report["bulk_source_mb_s"] = median(bulk.source);
    report["bulk_ratio"] = median(bulk.source) / median(bulk.bare);
    report["bulk_piece_us"] = static_cast<double>(kBulkPiece) / median(bulk.source);
    report["registered_ratio"] = pair->registered_ratio();
  }
  VMHOP_ASSIGN(report["faults"], fault_rows(mib << 20, rounds));
  print(report);
  if (as_json) fmt::print("{}\n", report.dump());
  return ok_status();
}

}  // namespace
}  // namespace vmhop::bench

int main(int argc, char** argv) {
  CLI::App app{"What reading by RDMA through the page source costs beside bare verbs"};
  uint64_t mib = 64;
  size_t rounds = 2000;
  bool json = false;
  app.add_option("--mib", mib, "Memory to read")->capture_default_str();
  app.add_option("--rounds", rounds, "Single pages to read")->capture_default_str();
  app.add_flag("--json", json, "End with one line of JSON");
  CLI11_PARSE(app, argc, argv);
  if (auto done = vmhop::bench::run(mib, rounds, json); !done) {
    fmt::print(stderr, "rdma_read: {}\n", done.error().message());
    return 1;
  }
  return 0;
}

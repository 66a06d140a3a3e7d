// What the page source costs beside bare verbs: each figure is a ratio within one run. Both ends
// are in this program, on the RDMA device at VMHOP_RDMA_ADDRESS; where there is none:
//
//   ci/rxe-lab -- build/release/bench/rdma_read
#include <fmt/format.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "bench/rdma_bench_pair.h"

namespace vmhop::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Samples = std::vector<double>;  // µs

constexpr uint64_t kPage = 4096;
constexpr uint64_t kBulkRead = 256 << 10;  // as the precacher's
constexpr uint64_t kBulkWindow = 1 << 20;  // bytes outstanding, as the precacher's
constexpr uint64_t kBulkPiece = 64 << 10;  // as the page source's

double quantile(Samples samples, double share) {
  std::sort(samples.begin(), samples.end());
  return samples[static_cast<size_t>(share * static_cast<double>(samples.size() - 1))];
}
double since_us(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// On one CPU the kernel's side of Soft-RoCE needs it too.
Status wait_for_completion(const rdma::Connection& connection) {
  std::array<ibv_wc, 16> completions;
  for (;;) {
    VMHOP_ASSIGN(size_t count, connection.completions.poll(completions));
    if (count == 0) {
      ::sched_yield();
      continue;
    }
    for (const ibv_wc& completion : std::span(completions).first(count)) {
      if (completion.status != IBV_WC_SUCCESS) return Error(ibv_wc_status_str(completion.status));
    }
    return ok_status();
  }
}

Status post_bare(const rdma::Connection& connection, const rdma::KeyedRange& range, uint64_t offset,
                 uint64_t length) {
  ibv_sge target{reinterpret_cast<uint64_t>(range.local + (offset - range.offset)),
                 static_cast<uint32_t>(length), range.local_key};
  ibv_send_wr request{};
  request.sg_list = &target;
  request.num_sge = 1;
  request.opcode = IBV_WR_RDMA_READ;
  request.send_flags = IBV_SEND_SIGNALED;
  request.wr.rdma.remote_addr = range.remote_address + (offset - range.offset);
  request.wr.rdma.rkey = range.remote_key;
  ibv_send_wr* refused = nullptr;
  if (int cause = ibv_post_send(connection.id->qp, &request, &refused); cause != 0) {
    return Error::from_errno("ibv_post_send", cause);
  }
  return ok_status();
}

Result<uint64_t> await_arrivals(PageSource& source) {
  std::array<PageArrival, 16> arrivals;
  for (;;) {
    VMHOP_ASSIGN(size_t count, source.poll(arrivals));
    uint64_t bytes = 0;
    for (const PageArrival& arrival : std::span(arrivals).first(count))
      bytes += arrival.range.length;
    if (count > 0) return bytes;
    ::sched_yield();
  }
}

Result<double> read_one(PageSource& source, BenchPair& pair, uint64_t offset) {
  PageRead read{{0, offset, kPage}, pair.target() + offset};
  auto start = Clock::now();
  VMHOP_TRY(source.post(std::span(&read, 1)));
  VMHOP_TRY(await_arrivals(source));
  return since_us(start);
}

// One page at a time, by turns: what disturbs one disturbs the other.
struct SinglePages {
  Samples bare;
  Samples source;
};
Result<SinglePages> measure_single(BenchPair& pair, size_t rounds) {
  VMHOP_ASSIGN(rdma::Connection bare, pair.connection(1));
  VMHOP_ASSIGN(auto source, pair.source(0));
  SinglePages samples;
  for (size_t i = 0; i < rounds; ++i) {
    uint64_t offset = (i * 977 % pair.pages()) * kPage;
    const rdma::KeyedRange* range = pair.range_at(offset);
    auto start = Clock::now();
    VMHOP_TRY(post_bare(bare, *range, offset, kPage));
    VMHOP_TRY(wait_for_completion(bare));
    samples.bare.push_back(since_us(start));
    VMHOP_ASSIGN(double took, read_one(*source, pair, offset));
    samples.source.push_back(took);
  }
  return samples;
}

// MB/s of reading all memory once.
Result<double> bulk_bare(BenchPair& pair, const rdma::Connection& connection) {
  auto start = Clock::now();
  uint64_t posted = 0;
  uint64_t done = 0;
  std::array<ibv_wc, 16> completions;
  while (done < pair.bytes()) {
    while (posted < pair.bytes() && posted - done + kBulkPiece <= kBulkWindow) {
      VMHOP_TRY(post_bare(connection, *pair.range_at(posted), posted, kBulkPiece));
      posted += kBulkPiece;
    }
    VMHOP_ASSIGN(size_t count, connection.completions.poll(completions));
    for (const ibv_wc& completion : std::span(completions).first(count)) {
      if (completion.status != IBV_WC_SUCCESS) return Error(ibv_wc_status_str(completion.status));
      done += kBulkPiece;
    }
    if (count == 0) ::sched_yield();
  }
  return static_cast<double>(done) / since_us(start);
}

Result<double> bulk_source(BenchPair& pair, PageSource& source, const std::atomic<bool>* stop) {
  auto start = Clock::now();
  uint64_t posted = 0;
  uint64_t done = 0;
  while (done < pair.bytes() && (stop == nullptr || !*stop || done < posted)) {
    bool more = posted < pair.bytes() && (stop == nullptr || !*stop);
    while (more && posted - done + kBulkRead <= kBulkWindow && posted < pair.bytes()) {
      PageRead read{{0, posted, kBulkRead}, pair.target() + posted};
      VMHOP_TRY(source.post(std::span(&read, 1)));
      posted += kBulkRead;
    }
    if (done == posted) break;
    VMHOP_ASSIGN(uint64_t arrived, await_arrivals(source));
    done += arrived;
  }
  return static_cast<double>(done) / since_us(start);
}

struct BulkRates {
  Samples bare;
  Samples source;
};
Result<BulkRates> measure_bulk(BenchPair& pair, size_t rounds) {
  VMHOP_ASSIGN(rdma::Connection bare, pair.connection(3));
  VMHOP_ASSIGN(auto source, pair.source(2));
  BulkRates rates;
  for (size_t i = 0; i < rounds; ++i) {
    VMHOP_ASSIGN(double by_hand, bulk_bare(pair, bare));
    VMHOP_ASSIGN(double by_source, bulk_source(pair, *source, nullptr));
    rates.bare.push_back(by_hand);
    rates.source.push_back(by_source);
  }
  return rates;
}

struct LoadedFaults {
  Samples alone;
  Samples loaded;
};
Result<LoadedFaults> measure_loaded(BenchPair& pair, size_t rounds) {
  VMHOP_ASSIGN(auto faults, pair.source(0));
  VMHOP_ASSIGN(auto bulk, pair.source(1));
  LoadedFaults samples;
  for (size_t i = 0; i < rounds; ++i) {
    VMHOP_ASSIGN(double took, read_one(*faults, pair, i * 977 % pair.pages() * kPage));
    samples.alone.push_back(took);
  }
  std::atomic<bool> stop{false};
  Status bulk_failed;
  std::thread loader([&] {
    while (!stop) {
      if (auto rate = bulk_source(pair, *bulk, &stop); !rate) {
        bulk_failed = rate.error();
        return;
      }
    }
  });
  Status fault_failed;
  for (size_t i = 0; i < rounds && fault_failed.ok(); ++i) {
    auto took = read_one(*faults, pair, i * 977 % pair.pages() * kPage);
    if (took) samples.loaded.push_back(*took);
    if (!took) fault_failed = took.error();
  }
  stop = true;
  loader.join();
  VMHOP_TRY(fault_failed);
  VMHOP_TRY(bulk_failed);
  return samples;
}

Status run(uint64_t mib, size_t rounds, bool as_json) {
  nlohmann::json report;
  {
    VMHOP_ASSIGN(auto pair, BenchPair::create(mib << 20, 4));
    VMHOP_ASSIGN(SinglePages single, measure_single(*pair, rounds));
    double bare = quantile(single.bare, 0.5);
    double source = quantile(single.source, 0.5);
    report["page_bare_us"] = bare;
    report["page_source_us"] = source;
    report["page_ratio"] = source / bare;
    VMHOP_ASSIGN(BulkRates bulk, measure_bulk(*pair, 9));
    report["bulk_bare_mb_s"] = quantile(bulk.bare, 0.5);
    report["bulk_source_mb_s"] = quantile(bulk.source, 0.5);
    report["bulk_ratio"] = quantile(bulk.source, 0.5) / quantile(bulk.bare, 0.5);
    report["registered_ratio"] = pair->registered_ratio();
  }
  {
    VMHOP_ASSIGN(auto pair, BenchPair::create(mib << 20, 2));
    VMHOP_ASSIGN(LoadedFaults faults, measure_loaded(*pair, rounds));
    report["fault_alone_p50_us"] = quantile(faults.alone, 0.5);
    report["fault_alone_p99_us"] = quantile(faults.alone, 0.99);
    report["fault_loaded_p50_us"] = quantile(faults.loaded, 0.5);
    report["fault_loaded_p99_us"] = quantile(faults.loaded, 0.99);
    report["bulk_piece_us"] =
        static_cast<double>(kBulkPiece) / report["bulk_source_mb_s"].get<double>();
  }
  auto number = [&](const char* key) { return report[key].get<double>(); };
  fmt::print(stderr,
             "                          bare      page source   ratio    to reach\n"
             "4 KiB page, median    {:8.1f} µs  {:8.1f} µs   {:6.3f}   <= 1.1\n"
             "bulk reads            {:8.1f} MB/s{:8.1f} MB/s {:6.3f}   >= 0.95\n"
             "registered/populated                         {:9.3f}   <= 1.05\n"
             "fault read            p50       p99\n"
             "  alone           {:8.1f} µs {:8.1f} µs\n"
             "  with bulk       {:8.1f} µs {:8.1f} µs   one bulk piece takes {:.1f} µs\n",
             number("page_bare_us"), number("page_source_us"), number("page_ratio"),
             number("bulk_bare_mb_s"), number("bulk_source_mb_s"), number("bulk_ratio"),
             number("registered_ratio"), number("fault_alone_p50_us"), number("fault_alone_p99_us"),
             number("fault_loaded_p50_us"), number("fault_loaded_p99_us"), number("bulk_piece_us"));
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

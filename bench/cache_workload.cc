#include <optional>

#include "bench/cache_probe.h"
#include "bench/workloads.h"
#include "tests/lab/linux_guest.h"
#include "tests/lab/process.h"
#include "tests/lab/throughput.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::Clock;
using lab::within;

// Most of what a cache is asked for is read. Each connection asks as soon as it is answered, so
// this is the share of requests, too.
constexpr unsigned kReaders = 8;
constexpr unsigned kWriters = 2;

// redis with values in more than a third of the RAM, read and overwritten in random order by
// redis-benchmark all the time, and a probe that measures its silence.
class Cache final : public Workload {
 public:
  Cache(const WorkloadSpec& spec, const std::string& image) {
    guest_.image = image;
    guest_.ram_mib = spec.ram_mib;
    guest_.witness_mib = 64;
    guest_.redis_mib = spec.ram_mib * 3 / 8;
    guest_.tap = lab::Network::kTap;
    guest_.name = kGuestName;
    contents_.values = guest_.redis_mib * CacheContents::kValuesPerMib;
  }

  std::vector<std::string> qemu_command(const lab::QemuPlace& place) const override {
    return guest_.qemu_command(place);
  }
  Status wait_until_ready(const lab::GuestConsole& console) const override {
    auto ready = console.wait_for_prefix("READY ", within(300s));
    return ready ? ok_status() : Status(ready.error());
  }
  uint64_t fill_from() const override { return uint64_t{1} << 20; }

  Status start_load(const lab::Network& network) override {
    VMHOP_ASSIGN(probe_,
                 CacheProbe::start(network.client(), lab::Network::kGuestAddress, contents_));
    VMHOP_TRY(probe_->wait_for_answers(10, within(30s)));
    VMHOP_TRY(start_clients(network, kReaders, {"GET", "key:__rand_int__"}));
    VMHOP_TRY(start_clients(network, kWriters, {"SET", "key:__rand_int__", overwritten_value()}));
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
    // It ends at the first request that fails, and else never.
    for (lab::Process& client : clients_) {
      if (!client.running()) return Error("redis-benchmark ended: " + client.err());
    }
    return probe_->failure();
  }

 private:
  Status start_clients(const lab::Network& network, unsigned connections,
                       std::vector<std::string> command) {
    lab::ProcessSpec spec;
    // --csv: no progress in its output.
    spec.argv = {"redis-benchmark",
                 "--csv",
                 "-h",
                 lab::Network::kGuestAddress,
                 "-c",
                 fmt::to_string(connections),
                 "-n",
                 "2000000000",
                 "-r",
                 fmt::to_string(contents_.values)};
    spec.argv.insert(spec.argv.end(), command.begin(), command.end());
    spec.where = &network.client();
    spec.output = fmt::format("{}/redis-{}", network.directory(), command[0]);
    VMHOP_ASSIGN(lab::Process client, lab::Process::start(spec));
    clients_.push_back(std::move(client));
    return ok_status();
  }

  lab::LinuxGuest guest_;
  CacheContents contents_{};
  std::unique_ptr<CacheProbe> probe_;
  std::vector<lab::Process> clients_;
  std::unique_ptr<lab::Throughput> throughput_;
};

}  // namespace

std::unique_ptr<Workload> make_cache(const WorkloadSpec& spec, const std::string& image) {
  return std::make_unique<Cache>(spec, image);
}

}  // namespace vmhop::bench

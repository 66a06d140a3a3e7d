#include <optional>

#include "bench/workloads.h"
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

// nginx, asked for a page by wrk all the time and by a probe that measures its silence.
class Web final : public Workload {
 public:
  Web(const WorkloadSpec& spec, std::string image) : image_(std::move(image)) {
    guest_.image = image_;
    guest_.ram_mib = spec.ram_mib;
    guest_.witness_mib = 64;
    guest_.tap = lab::Network::kTap;
    guest_.name = kGuestName;
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

}  // namespace

std::unique_ptr<Workload> make_web(const WorkloadSpec& spec, const std::string& image) {
  return std::make_unique<Web>(spec, image);
}

}  // namespace vmhop::bench

#include "tests/demo/demo.h"

#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "cli/format.h"
#include "cli/json_access.h"
#include "tests/lab/network.h"
#include "tests/lab/witness_log.h"

namespace vmhop::demo {
namespace {

using lab::seconds_between;
using namespace std::chrono_literals;

constexpr const char* kVm = "web";
// What throughput is averaged over, before and once drained.
constexpr std::chrono::milliseconds kMeasured = 4s;
constexpr std::chrono::milliseconds kDisplayEvery = 200ms;

std::string took(lab::Clock::time_point since) {
  return fmt::format("{:.1f} s", seconds_between(since, lab::Clock::now()));
}

}  // namespace

Status Demo::run() {
  VMHOP_TRY(choose_qemu());
  VMHOP_TRY(make_hosts());
  VMHOP_TRY(start_guest());
  VMHOP_TRY(start_load());
  VMHOP_TRY(prepare_destination());
  VMHOP_TRY(relocate());
  VMHOP_TRY(watch_drained_guest());
  VMHOP_TRY(stop_load());
  return power_off();
}

// The object is in no distribution's QEMU.
Status Demo::choose_qemu() {
  if (!options_.qemu.empty()) return ok_status();
  if (options_.front != "object" || std::getenv("VMHOP_LAB_QEMU") != nullptr) {
    options_.qemu = lab::lab_qemu();
    return ok_status();
  }
  display_.working("QEMU", "looking for one with memory-backend-postcopy");
  VMHOP_ASSIGN(options_.qemu, lab::patched_qemu("7.2"));
  display_.done("QEMU", "7.2 with memory-backend-postcopy");
  return ok_status();
}

Status Demo::make_hosts() {
  auto since = Clock::now();
  display_.working("hosts", "making them");
  VMHOP_ASSIGN(venue_, options_.transport == "rdma" ? find_kernels(options_.vmhop)
                                                    : make_namespaces(options_.vmhop));
  if (options_.ram_mib == 0) options_.ram_mib = venue_->conditions().ram_mib;
  VMHOP_ASSIGN(source_, venue_->host("source"));
  VMHOP_ASSIGN(destination_, venue_->host("destination"));
  VMHOP_ASSIGN(disk_, venue_->make_disk());
  display_.done("hosts", fmt::format("{}; a disk that both reach ({})",
                                     venue_->conditions().description, took(since)));
  return ok_status();
}

lab::Deadline Demo::within(Clock::duration span) const {
  return lab::within(span * venue_->conditions().slowness);
}

Status Demo::start_guest() {
  display_.working("guest", "looking for its image");
  image_ = options_.image;
  if (image_.empty()) {
    VMHOP_ASSIGN(image_, lab::find_guest_image(VMHOP_LAB_SOURCES, venue_->directory()));
  }
  auto since = Clock::now();
  display_.working("guest", "booting Linux");
  VMHOP_ASSIGN(console_, lab::GuestConsole::create());
  VMHOP_ASSIGN(running_, source_->run(kVm, guest().qemu_command(source_->place()),
                                      {"--front", options_.front}));
  VMHOP_TRY(console_->attach(source_->place().console, within(30s)));
  VMHOP_ASSIGN(lab::Line ready, console_->wait_for_prefix("READY ", within(180s)));
  if (lab::field(ready.text, "nginx") != 1 || lab::field(ready.text, "disk") != 1) {
    return Error("the guest is not complete: " + ready.text);
  }
  display_.done("guest", fmt::format("Linux with nginx, {} MiB of RAM, writing to its disk ({})",
                                     options_.ram_mib, took(since)));
  display_.working("witness", "first pass over the guest's memory");
  VMHOP_TRY(wait_for_passes(1));
  display_.done("witness", fmt::format("checks and rewrites {} MiB of it all the time",
                                       lab::field(ready.text, "mib").value_or(0)));
  return ok_status();
}

lab::LinuxGuest Demo::guest() const {
  lab::LinuxGuest guest;
  guest.image = image_;
  guest.qemu = options_.qemu;
  guest.ram_mib = options_.ram_mib;
  guest.witness_mib = venue_->conditions().witness_mib;
  guest.disk = venue_->path_for_guest(*disk_);
  guest.tap = venue_->conditions().tap;
  return guest;
}

Status Demo::wait_for_passes(uint64_t more) const {
  auto passes = lab::read_witness(console_->log().lines()).passes + more;
  auto passed = [&](const lab::Line& line) {
    auto beat = lab::parse_heartbeat(line.text);
    return beat && beat->passes >= passes;
  };
  auto seen = console_->wait_for(passed, within(120s), console_->log().size());
  return seen ? ok_status() : Status(seen.error().with("waiting for the witness"));
}

Status Demo::start_load() {
  display_.working("load", "starting");
  const Conditions& conditions = venue_->conditions();
  lab::ProbeSpec probe;
  probe.address = lab::Network::kGuestAddress;
  probe.www = image_ + "/www";
  probe.pause = conditions.probe_pause;
  probe.give_up_after *= conditions.slowness;
  VMHOP_ASSIGN(probe_, lab::HttpProbe::start(venue_->client(), probe));
  VMHOP_TRY(probe_->wait_for_answers(10, within(30s)));
  VMHOP_ASSIGN(wrk_,
               lab::Wrk::start(venue_->client(), fmt::format("http://{}/16k.txt", probe.address),
                               conditions.wrk_connections, source_->directory() + "/wrk"));
  VMHOP_ASSIGN(throughput_, lab::Throughput::start(venue_->client(), conditions.client_interface));
  load_since_ = Clock::now();
  return ok_status();
}

// While the load is measured.
Status Demo::prepare_destination() {
  std::vector<std::string> options = venue_->conditions().receive_options;
  options.insert(options.end(), {"--front", options_.front});
  VMHOP_ASSIGN(receiving_,
               destination_->receive(kVm, guest().qemu_command(destination_->place()), options));
  VMHOP_TRY(console_->attach(destination_->place().console, within(60s)));
  VMHOP_ASSIGN(source_monitor_, source_->monitor(within(10s)));
  VMHOP_ASSIGN(destination_monitor_, destination_->monitor(within(10s)));
  auto since = std::max(load_since_ + 1s, Clock::now());
  std::this_thread::sleep_until(since + kMeasured);
  report_.bytes_per_second_before = throughput_->bytes_per_second(since, Clock::now());
  display_.done("load", fmt::format("wrk with {} connections: {:.1f} MB/s",
                                    venue_->conditions().wrk_connections,
                                    report_.bytes_per_second_before / 1e6));
  return ok_status();
}

Status Demo::relocate() {
  display_.working("relocation", "under way");
  std::vector<std::string> options = venue_->conditions().relocate_options;
  if (options_.plain_data) options.emplace_back("--plain-data");
  VMHOP_ASSIGN(meter_,
               Meter::start(*source_, *destination_, kVm, venue_->conditions().rdma_interface));
  asked_at_ = Clock::now();
  VMHOP_ASSIGN(lab::Process relocating, source_->relocate(kVm, destination_->endpoint(), options));
  follow(relocating);
  VMHOP_ASSIGN(lab::Finished finished, lab::finish(relocating, within(5min)));
  drained_at_ = Clock::now();
  if (!finished.status.clean()) return Error("vmhop relocate: " + finished.describe());
  report_.take_relocation(finished.json());
  VMHOP_ASSIGN(report_.costs, meter_->stop());
  resumed_at_ =
      drained_at_ - std::chrono::microseconds(static_cast<int64_t>(report_.drained_ms * 1000));
  cross_check_blackout();
  display_.done(
      "relocation",
      fmt::format("blackout {}", display_.bold(fmt::format("{:.1f} ms", report_.blackout_ms))));
  display_.done("drained", fmt::format("after {:.2f} s", report_.drained_ms / 1000));
  return ok_status();
}

// Until it ends, with its progress where somebody can see it. Asking is a program that runs on the
// source, beside what it asks about: it shall be a tenth of the time at most.
void Demo::follow(lab::Process& relocating) const {
  auto deadline = within(5min);
  Clock::duration pause = kDisplayEvery;
  while (Clock::now() < deadline && !relocating.wait(lab::within(pause))) {
    if (!display_.on_terminal()) continue;
    auto asked = Clock::now();
    auto status = source_->status(kVm);
    pause = std::max<Clock::duration>(kDisplayEvery, 9 * (Clock::now() - asked));
    if (!status) continue;
    const auto& progress = member_of(*status, "progress");
    display_.working("relocation",
                     fmt::format("{}: {:.0f} % of the pages are there", text_of(*status, "state"),
                                 percent(number_of(progress, "pages_resident"),
                                         number_of(progress, "pages_total"))));
  }
}

void Demo::cross_check_blackout() {
  auto blackout = lab::read_blackout(*source_monitor_, *destination_monitor_);
  if (!blackout) return display_.warn(blackout.error().message());
  resumed_at_ = lab::to_steady(blackout->resumed);
  report_.qemu_blackout_ms = lab::milliseconds(blackout->length());
  if (!agrees(report_.blackout_ms, report_.qemu_blackout_ms)) {
    display_.warn(
        fmt::format("vmhop says that the blackout was {:.1f} ms; by QEMU's own time "
                    "stamps it was {:.1f} ms",
                    report_.blackout_ms, report_.qemu_blackout_ms));
  }
}

Status Demo::watch_drained_guest() {
  display_.working("afterwards", "the guest goes on at the destination");
  auto drained = console_->log().size();
  auto until = std::max(drained_at_, resumed_at_ + 1s) + 500ms;
  std::this_thread::sleep_until(until + kMeasured);
  report_.bytes_per_second_drained = throughput_->bytes_per_second(until, Clock::now());
  report_.bytes_per_second_first = throughput_->bytes_per_second(resumed_at_, resumed_at_ + 1s);
  // Two: the first one had begun before.
  auto lines = console_->log().lines();
  lines.resize(std::min(lines.size(), drained));
  passes_when_drained_ = lab::read_witness(lines).passes;
  uint64_t passes = lab::read_witness(console_->log().lines()).passes;
  if (passes < passes_when_drained_ + 2) {
    VMHOP_TRY(wait_for_passes(passes_when_drained_ + 2 - passes));
  }
  VMHOP_TRY(probe_->wait_for_answers(10, within(30s)));
  return ok_status();
}

Status Demo::stop_load() {
  VMHOP_ASSIGN(lab::WrkSummary wrk, wrk_->stop());
  lab::ProbeReport probe = probe_->report();
  report_.requests = wrk.requests + probe.requests;
  report_.failed_requests = wrk.failed() + probe.failed;
  report_.client_gap_ms = lab::milliseconds(probe_->longest_gap(asked_at_, drained_at_));
  report_.guest_gap_ms =
      lab::milliseconds(lab::longest_gap_within(console_->log().lines(), asked_at_, drained_at_));
  check("no client's request failed", clients_were_served());
  check("the source has nothing of it left", nothing_left_at_source());
  check("the destination serves on", destination_serves_on());
  probe_.reset();
  return ok_status();
}

Status Demo::power_off() {
  display_.working("the end", "powering the guest off");
  VMHOP_TRY(console_->send("POWEROFF"));
  VMHOP_ASSIGN(lab::Line bye, console_->wait_for_prefix("BYE ", within(60s)));
  VMHOP_ASSIGN(lab::Finished received, lab::finish(*receiving_, within(60s)));
  check("memory was right all the time", memory_is_right());
  check("no heartbeat was lost or doubled", heartbeats_are_whole());
  check("vmhop ended with its guest",
        received.status.clean() ? ok_status() : Status(Error(received.describe())));
  check("the disk's file system is sound", disk_->check_filesystem());
  uint64_t synced = lab::field(bye.text, "synced").value_or(0);
  check(fmt::format("all {} synced records are on it", synced),
        synced > 0 ? disk_->check_records(image_ + "/witness", synced)
                   : Status(Error("none was synced")));
  return ok_status();
}

void Demo::check(const std::string& what, Status held) {
  if (held) {
    display_.done("verified", what);
  } else {
    display_.failed("FAILED", what + ": " + held.error().message());
  }
  report_.checks.push_back({what, std::move(held)});
}

}  // namespace vmhop::demo

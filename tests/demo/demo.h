// The main job: a loaded web server, in a VM that also writes to its disk and watches its memory,
// moves from one host to another, and nothing is lost.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend/base/result.h"
#include "tests/demo/meter.h"
#include "tests/demo/report.h"
#include "tests/demo/stage_display.h"
#include "tests/demo/venue.h"
#include "tests/lab/blackout.h"
#include "tests/lab/guest_console.h"
#include "tests/lab/http_probe.h"
#include "tests/lab/linux_guest.h"
#include "tests/lab/shared_disk.h"
#include "tests/lab/throughput.h"
#include "tests/lab/vmhop_host.h"
#include "tests/lab/wrk.h"

namespace vmhop::demo {

struct Options {
  std::string transport = "tcp";
  std::string front = "auto";
  std::string qemu;  // the program; empty: what has that front
  std::string vmhop = lab::lab_vmhop();
  std::string image;     // the guest's; empty: ci/guest-image makes it
  uint64_t ram_mib = 0;  // 0: what suits the transport's venue
  bool plain_data = false;
  bool json = false;
  std::string keep_logs;  // a directory, or empty
};

class Demo {
 public:
  Demo(const Options& options, StageDisplay& display) : options_(options), display_(display) {}

  // An error is something that kept the demo from going on; a check that did not hold is in the
  // report.
  Status run();
  const Report& report() const { return report_; }

  // For when something went wrong: the ends of what everybody said.
  std::string ends_of_logs() const;
  Status keep_logs(const std::string& directory) const;

 private:
  using Clock = lab::Clock;

  // The story, in order.
  Status choose_qemu();
  Status make_hosts();
  Status start_guest();
  Status start_load();
  Status prepare_destination();
  Status relocate();
  Status watch_drained_guest();
  Status stop_load();
  Status power_off();

  // On a slow venue it takes longer before something is certain not to happen.
  lab::Deadline within(Clock::duration span) const;
  lab::LinuxGuest guest() const;
  Status wait_for_passes(uint64_t more) const;
  void follow(lab::Process& relocating) const;
  void cross_check_blackout();
  void check(const std::string& what, Status held);
  Status memory_is_right() const;
  Status heartbeats_are_whole() const;
  Status clients_were_served() const;
  Status nothing_left_at_source();
  Status destination_serves_on() const;

  Options options_;
  StageDisplay& display_;
  Report report_;

  std::string image_;
  std::unique_ptr<Venue> venue_;
  std::optional<lab::VmhopHost> source_;
  std::optional<lab::VmhopHost> destination_;
  std::optional<lab::SharedDisk> disk_;
  std::unique_ptr<lab::GuestConsole> console_;
  std::optional<lab::Process> running_;
  std::optional<lab::Process> receiving_;
  std::optional<Meter> meter_;
  std::optional<QmpClient> source_monitor_;
  std::optional<QmpClient> destination_monitor_;
  std::optional<lab::Wrk> wrk_;
  std::unique_ptr<lab::HttpProbe> probe_;
  std::unique_ptr<lab::Throughput> throughput_;

  Clock::time_point load_since_;
  Clock::time_point asked_at_;
  Clock::time_point resumed_at_;
  Clock::time_point drained_at_;
  uint64_t passes_when_drained_ = 0;
};

}  // namespace vmhop::demo

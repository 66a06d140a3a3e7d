#include "cli/source_rollback.h"

#include <spdlog/spdlog.h>

#include "cli/json_access.h"
#include "cli/migration_setup.h"
#include "cli/source_checks.h"

namespace vmhop {
namespace {

using nlohmann::json;
using Clock = QmpClient::Clock;

constexpr std::chrono::milliseconds kPoll{20};

bool is_over(const std::string& status) {
  return status.empty() || status == "none" || status == "failed" || status == "cancelled" ||
         status == "completed";
}

// Waits a moment, or less if QEMU has news.
Status pause_for_news(QmpClient& qmp) {
  auto event = qmp.next_event(kPoll);
  if (!event && event.error().kind() != ErrorKind::kTimedOut) return event.error();
  return ok_status();
}

Status end_migration(QmpClient& qmp, Clock::time_point deadline) {
  for (;;) {
    VMHOP_ASSIGN(json migration, qmp.execute("query-migrate"));
    std::string status = text_of(migration, "status");
    if (is_over(status)) return ok_status();
    if (status == "cancelling") {
      // A cancel between STOP and pre-switchover can leave QEMU's migration thread waiting for
      // ever to be let go on (7.2: one cancel in ten). This lets it, and is void otherwise.
      if (auto woken = qmp.execute("migrate-continue", {{"state", "cancelling"}}); !woken) {
        if (woken.error().kind() == ErrorKind::kClosed) return woken.error();
      }
    } else {
      VMHOP_TRY(qmp.execute("migrate_cancel"));
    }
    if (Clock::now() >= deadline) {
      return Error("QEMU does not end its migration (" + status + ")", ErrorKind::kTimedOut);
    }
    VMHOP_TRY(pause_for_news(qmp));
  }
}

Status make_it_run(QmpClient& qmp, Clock::time_point deadline) {
  Error last("the VM does not run");
  for (;;) {
    VMHOP_ASSIGN(std::string state, query_run_state(qmp));
    if (state == "running") return ok_status();
    // A migration that failed by itself resumes the VM a moment after it says so; a second cont
    // does no harm.
    auto resumed = qmp.execute("cont");
    if (!resumed) {
      if (resumed.error().kind() == ErrorKind::kClosed) return resumed.error();
      last = resumed.error();
    }
    if (Clock::now() >= deadline) return last.with("resuming the VM (it is " + state + ")");
    VMHOP_TRY(pause_for_news(qmp));
  }
}

}  // namespace

Status resume_at_source(QmpClient& qmp, ResumeVm resume, std::chrono::milliseconds timeout) {
  auto deadline = Clock::now() + timeout;
  VMHOP_TRY(end_migration(qmp, deadline));
  if (resume == ResumeVm::kLeavePaused) return ok_status();
  VMHOP_TRY(make_it_run(qmp, deadline));
  if (auto announced = announce(qmp); !announced) spdlog::warn("{}", announced.error().message());
  return ok_status();
}

}  // namespace vmhop

#include "cli/reception.h"

#include <poll.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>

#include "cli/json_access.h"
#include "cli/source_checks.h"

namespace vmhop {

using nlohmann::json;

ReceptionOutcome Reception::run() {
  auto started = host_.start_vm([this] {
    read_mailbox();
    return terminating_;
  });
  if (!started) {
    return {terminating_ ? ReceptionEnd::kTerminated : ReceptionEnd::kFailed,
            started.error().message(),
            {}};
  }
  vm_.emplace(std::move(*started));
  machine_ = vm_->machine;
  qemu_version_ = vm_->qmp.qemu_version();
  regions_ = vm_->regions;
  Status ready = check_capabilities(vm_->qmp, MigrationSide::kDestination);
  if (ready) ready = start_pager();
  if (!ready) {
    if (host_.owns_qemu()) host_.end_qemu();
    return {ReceptionEnd::kFailed, ready.error().message(), {}};
  }
  return serve();
}

ReceptionOutcome Reception::serve() {
  for (;;) {
    if (auto outcome = react()) return *outcome;
    auto deadline = give_up_at_.value_or(Clock::now() + std::chrono::hours(1));
    if (auto pumped = pump(deadline); !pumped) {
      spdlog::error("{}: {}", host_.vm_name(), pumped.error().message());
    }
  }
}

// Also after a pager died: the same descriptors and the same page map, so nothing is lost.
Status Reception::start_pager() {
  VMHOP_ASSIGN(pager_, host_.start_pager());
  pager_closed_ = pager_heard_out_ = false;
  pager_started_ = Clock::now();
  json regions = json::array();
  VMHOP_ASSIGN(UniqueFd key, host_.key());
  std::vector<int> fds = {key.get(), host_.listening_socket()};
  if (page_map_.valid()) fds.push_back(page_map_.get());
  for (const WaitingVm::Region& region : regions_) {
    regions.push_back({{"id", region.id},
                       {"size", region.size},
                       {"page_size", region.page_size},
                       {"address", region.address}});
    fds.push_back(region.memfd);
    fds.push_back(region.userfaultfd);
  }
  json start = {{"cmd", "start"},
                {"vm", host_.vm_name()},
                {"machine", machine_},
                {"qemu_version", qemu_version_},
                {"transport", host_.transport()},
                {"runtime_dir", host_.runtime_directory()},
                {"page_map", page_map_.valid()},
                {"regions", regions}};
  VMHOP_TRY(pager_->channel.send(start, fds));
  remind_pager();
  return ok_status();
}

// A pager that was started again may lack what its predecessor was told; it ignores the rest.
void Reception::remind_pager() {
  if (stage_ == Stage::kLoaded) {
    tell_pager({{"cmd", "loaded"}});
    if (decided_to_run_) tell_pager({{"cmd", "commit"}});
  }
  if (stage_ == Stage::kRunning) tell_pager({{"cmd", "running"}});
  if (!last_words_.is_null()) tell_pager(last_words_);
}

// A message to a pager that has just left fails before its own last one is read: that it was
// aborted, for example, which nobody would ever say again.
void Reception::hear_pagers_last_words() {
  pager_heard_out_ = true;
  while (auto message = pager_->channel.receive(0))
    on_pager(message->body, std::move(message->fds));
}

std::optional<ReceptionOutcome> Reception::react() {
  if (pager_closed_ && !pager_heard_out_) hear_pagers_last_words();
  if (!exit_) {
    if (auto status = host_.qemu_exit()) on_qemu_exit(*status);
  }
  if (drained_ && !exit_) {
    host_.let_front_go();
    if (auto restored = setup_.restore(vm_->qmp); !restored) {
      spdlog::warn("{}: {}", host_.vm_name(), restored.error().message());
    }
    remove_switch_record(host_.runtime_directory());
    // The pager leaves by itself once the source knows.
    return ReceptionOutcome{ReceptionEnd::kDrained, "", {}};
  }
  if (aborted_) {
    // One that nobody connected to waits on, if it is somebody else's.
    if (source_connected_ || host_.owns_qemu()) host_.end_qemu();
    return finish(terminating_ ? ReceptionEnd::kTerminated : ReceptionEnd::kAborted, *aborted_);
  }
  if (stage_ == Stage::kEnded || stage_ == Stage::kGivenBack) return react_when_over();
  if (give_up_at_ && Clock::now() >= *give_up_at_) return react_to_impatience();
  if (pager_closed_) return react_to_pager_gone();
  return std::nullopt;
}

// QEMU is gone; the source must hear of it before the pager goes.
std::optional<ReceptionOutcome> Reception::react_when_over() {
  auto end = stage_ == Stage::kEnded ? ReceptionEnd::kVmEnded
             : terminating_          ? ReceptionEnd::kTerminated
                                     : ReceptionEnd::kAborted;
  ReceptionOutcome outcome{end, end_message_, exit_.value_or(ExitStatus{}), drained_};
  if (drained_ || (pager_closed_ && pager_done_)) {
    pager_->wait_exit(limits_.grace);
    return outcome;
  }
  if (give_up_at_ && Clock::now() >= *give_up_at_) {
    spdlog::warn("{}: the source has not heard of it yet; the pager stays to tell it",
                 host_.vm_name());
    return outcome;
  }
  if (pager_closed_) return react_to_pager_gone();
  return std::nullopt;
}

std::optional<ReceptionOutcome> Reception::react_to_impatience() {
  give_up_at_.reset();
  host_.end_qemu();
  if (quit_sent_) {
    spdlog::warn("{}: QEMU did not quit and was killed", host_.vm_name());
    return std::nullopt;
  }
  return finish(ReceptionEnd::kTerminated, "the pager did not answer");
}

std::optional<ReceptionOutcome> Reception::react_to_pager_gone() {
  pager_->end_within(limits_.grace);
  if (stage_ == Stage::kWaiting || stage_ == Stage::kLoading) {
    if (host_.owns_qemu() || source_connected_) host_.end_qemu();
    return ReceptionOutcome{terminating_ ? ReceptionEnd::kTerminated : ReceptionEnd::kAborted,
                            fmt::format("the pager {} unexpectedly", pager_->describe_end()),
                            {}};
  }
  // The VM may be, or is, this host's: its pages must keep coming.
  spdlog::error("{}: the pager {} unexpectedly; starting it again", host_.vm_name(),
                pager_->describe_end());
  host_.report({{"event", "notice"}, {"message", "the pager died and is started again"}});
  if (Clock::now() - pager_started_ < limits_.restart_pause) {
    std::this_thread::sleep_for(limits_.restart_pause);
  }
  if (auto again = start_pager(); !again) {
    spdlog::error("{}: {}", host_.vm_name(), again.error().message());
    pager_closed_ = true;
  }
  return std::nullopt;
}

ReceptionOutcome Reception::finish(ReceptionEnd end, std::string message) {
  // One that nobody has connected to waits for ever.
  pager_->end_within(source_connected_ ? limits_.grace : std::chrono::milliseconds(0));
  return {end, std::move(message), {}};
}

Status Reception::pump(Clock::time_point deadline) {
  bool over = exit_.has_value();
  // Answers and events may have come along with another answer.
  if (!over && vm_->qmp.has_queued_event()) {
    read_qmp();
    return ok_status();
  }
  std::array<pollfd, 4> polled{{{mailbox_.fd(), POLLIN, 0},
                                {pager_closed_ ? -1 : pager_->channel.fd(), POLLIN, 0},
                                {qmp_lost_ || over ? -1 : vm_->qmp.fd(), POLLIN, 0},
                                {over ? -1 : vm_->exit_fd, POLLIN, 0}}};
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  int timeout = static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000));
  if (::poll(polled.data(), polled.size(), timeout) < 0 && errno != EINTR) {
    return Error::from_errno("poll", errno);
  }
  // QEMU's last events before its end, and both before what they mean for the pager.
  if (polled[2].revents != 0) read_qmp();
  if (polled[1].revents != 0) {
    auto message = pager_->channel.receive(0);
    if (message) {
      on_pager(message->body, std::move(message->fds));
    } else if (message.error().kind() != ErrorKind::kTimedOut) {
      pager_closed_ = true;
    }
  }
  if (polled[0].revents != 0) read_mailbox();
  return ok_status();
}

void Reception::tell_pager(const json& message) {
  if (!pager_->channel.send(message)) pager_closed_ = true;
}

void Reception::read_mailbox() {
  while (auto request = mailbox_.take()) {
    if (request->first == Request::kTerminate) terminate(request->second);
    if (request->first == Request::kLeaseLost && !stopped_there_) terminate(request->second);
    bool in_doubt = stage_ == Stage::kLoaded;
    if (request->first == Request::kDrop && stage_ == Stage::kGivenBack) forget_source();
    if (request->first == Request::kDrop && in_doubt) give_back(request->second);
    if (request->first == Request::kGiveBack && in_doubt) give_back(request->second);
    if (request->first == Request::kRunHere && in_doubt) run_here();
  }
}

// SIGTERM, in any phase.
void Reception::terminate(const std::string& reason) {
  // Somebody else's QEMU whose memory only this can bring: it takes two signals to end that VM.
  bool runs_here = stage_ == Stage::kResuming || stage_ == Stage::kRunning;
  if (!host_.owns_qemu() && runs_here && !std::exchange(asked_to_end_, true)) {
    spdlog::warn(
        "{}: its memory is still arriving: this ends when all of it is here. Another signal ends "
        "the VM",
        host_.vm_name());
    return;
  }
  if (terminating_) return;
  terminating_ = true;
  switch (stage_) {
    case Stage::kWaiting:
    case Stage::kLoading:
      if (!source_connected_) {
        aborted_ = reason;
      } else {
        give_up_at_ = Clock::now() + limits_.settle;
        tell_pager({{"cmd", "load_failed"}, {"message", reason}});
      }
      break;
    case Stage::kLoaded:
      give_back(reason);
      break;
    case Stage::kResuming:
    case Stage::kRunning:
      // It may be frozen on a page that cannot come: the deadline kills it then.
      quit_sent_ = true;
      give_up_at_ = Clock::now() + limits_.quit;
      if (auto sent = vm_->qmp.send("quit"); !sent) qmp_lost_ = true;
      break;
    case Stage::kGivenBack:
    case Stage::kEnded:
      break;
  }
}

// An operator knows that the source does not run it, and never will. It is the pager that commits.
void Reception::run_here() {
  decided_to_run_ = true;
  tell_pager({{"cmd", "commit"}});
}

// The VM has never run here; make sure that it never will, then let the source have it.
void Reception::give_back(const std::string& reason) {
  host_.end_qemu();
  exit_ = host_.qemu_exit().value_or(ExitStatus{0, 9});
  stage_ = Stage::kGivenBack;
  end_message_ = reason;
  last_words_ = {{"cmd", "returned"}, {"message", reason}};
  // The source may have committed already, so it must hear of this: only a supervisor that is to
  // end leaves that to the pager alone.
  if (terminating_) give_up_at_ = Clock::now() + limits_.settle;
  tell_pager(last_words_);
  host_.report({{"event", "given_back"},
                {"message", reason + "; this stays until the source has heard of it"}});
}

// An operator knows that there is nobody to tell.
void Reception::forget_source() {
  pager_->kill_and_reap();
  pager_closed_ = pager_heard_out_ = pager_done_ = true;
}

}  // namespace vmhop

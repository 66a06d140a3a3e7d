// What a relocation hears: QEMU's events, the exporter's messages, the supervisor's requests.
#include <poll.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cerrno>

#include "cli/json_access.h"
#include "cli/relocation.h"

namespace vmhop {

using nlohmann::json;

Status Relocation::pump(Clock::time_point deadline) {
  // A command that was answered meanwhile may have queued events.
  if (qmp_ && !qemu_frozen_) {
    if (auto event = qmp_->take_event()) {
      on_qmp(*event);
      return ok_status();
    }
  }
  bool listen_to_qemu = qmp_ && !qmp_lost_ && !qemu_frozen_;
  bool listen_to_exporter = exporter_ && !exporter_closed_;
  std::array<pollfd, 3> polled{{{mailbox_.fd(), POLLIN, 0},
                                {listen_to_exporter ? exporter_->channel.fd() : -1, POLLIN, 0},
                                {listen_to_qemu ? qmp_->fd() : -1, POLLIN, 0}}};
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  int timeout = static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000));
  if (::poll(polled.data(), polled.size(), timeout) < 0 && errno != EINTR) {
    return Error::from_errno("poll", errno);
  }
  // The exporter first: a commit that it made must be seen before an abort that came with it.
  if (polled[1].revents != 0) read_exporter();
  if (polled[2].revents != 0) read_qmp();
  if (polled[0].revents != 0) read_mailbox();
  return ok_status();
}

void Relocation::read_exporter() {
  auto message = exporter_->channel.receive(0);
  if (message) {
    on_exporter(message->body);
  } else if (message.error().kind() != ErrorKind::kTimedOut) {
    exporter_closed_ = true;
  }
}

void Relocation::read_qmp() {
  if (auto read = qmp_->process_input(); !read) qmp_lost_ = true;
  while (auto event = qmp_->take_event())
    on_qmp(*event);
}

void Relocation::read_mailbox() {
  while (auto request = mailbox_.take()) {
    switch (request->first) {
      case Request::kGo:
        request_.hold = false;
        break;
      case Request::kAbort:
        if (committed_) {
          host_.report({{"event", "notice"},
                        {"message", "it is too late to abort: the VM is the destination's"}});
        } else {
          abort_requested_ = Error(request->second, ErrorKind::kAborted);
        }
        break;
      case Request::kTerminate:
        if (!committed_) abort_requested_ = Error(request->second, ErrorKind::kAborted);
        // If the commit wins against this abort, it is about leaving.
        leave_by_ = Clock::now() + limits_.leave;
        break;
      case Request::kDrop:
        if (!committed_) break;
        if (exporter_closed_) {
          dropped_ = true;
        } else if (!exporter_->channel.send({{"cmd", "drop"}})) {
          exporter_closed_ = true;
        }
        break;
      case Request::kLeaseLost:  // a receiver's
        break;
      case Request::kRunHere:
        run_here();
        break;
      case Request::kGiveBack:
        keep_given_away();
        break;
    }
  }
}

void Relocation::on_exporter(const json& message) {
  std::string event = text_of(message, "event");
  if (event == "prepared") {
    prepared_ = true;
  } else if (event == "failed") {
    exporter_failed_ = Error(text_of(message, "message", "the exporter failed"),
                             kind_named(text_of(message, "kind")));
  } else if (event == "committed") {
    committed_ = true;
  } else if (event == "aborted") {
    exporter_aborted_ = true;
  } else if (event == "running") {
    running_there_ = true;
    host_.report(message);
    // The exporter told this before it heard of the decision, which is void then.
    if (std::exchange(revoked_, false)) refuse_to_run_here();
  } else if (event == "drained") {
    drained_ = member_of(message, "report");
  } else if (event == "ended") {
    ended_ = text_of(message, "reason", "the VM ended at the destination");
  } else if (event == "returned") {
    returned_ = text_of(message, "message", "it never ran there");
  } else if (event == "dropped") {
    dropped_ = true;
  } else if (event == "progress" || event == "link" || event == "transport") {
    host_.report(message);
  } else if (event == "error") {
    host_.report({{"event", "notice"}, {"message", text_of(message, "message")}});
  } else {
    spdlog::warn("{}: the exporter said '{}', which is unknown", host_.vm_name(), event);
  }
}

void Relocation::on_qmp(const QmpEvent& event) {
  if (event.name == "MIGRATION") {
    migration_ = text_of(event.data, "status");
    // A VM that was paused already is not stopped again.
    if (migration_ == "pre-switchover" && stopped_ns_ == 0) stopped_ns_ = event.timestamp_ns;
  } else if (event.name == "STOP") {
    stopped_ns_ = event.timestamp_ns;
  }
}

}  // namespace vmhop

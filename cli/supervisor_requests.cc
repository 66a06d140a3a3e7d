// The supervisor's control socket: what it answers and what it starts.
#include <spdlog/spdlog.h>

#include "backend/base/thread_role.h"
#include "cli/json_access.h"
#include "cli/supervisor.h"

namespace vmhop {
namespace {

using nlohmann::json;

std::string duration_text(std::chrono::milliseconds duration) {
  auto seconds = (duration.count() + 999) / 1000;
  if (seconds < 120) return fmt::format("{} s", seconds);
  return fmt::format("{} min", (seconds + 59) / 60);
}

}  // namespace

void Supervisor::refuse(ClientId client, const std::string& message) {
  server_->send(client, error_event(ErrorKind::kRefused, message));
}

void Supervisor::on_request(ClientId client, ControlMessage message) {
  std::string command = text_of(message.body, "cmd");
  if (command == "status") {
    server_->send(client, view_.to_json());
  } else if (command == "relocate") {
    on_relocate(client, std::move(message));
  } else if (command == "go") {
    on_go(client);
  } else if (command == "abort") {
    on_abort(client, text_of(message.body, "reason", "aborted by the user"));
  } else if (command == "drop") {
    on_drop(client);
  } else if (command == "resolve") {
    on_resolve(client, message.body);
  } else {
    server_->send(client, error_event(ErrorKind::kFailed, "unknown command '" + command + "'"));
  }
}

void Supervisor::on_relocate(ClientId client, ControlMessage message) {
  const json& request = message.body;
  Waiting wanted{client, {}, false};
  RelocationRequest& to = wanted.request;
  to.host = text_of(request, "host");
  to.port = static_cast<uint16_t>(number_of(request, "port"));
  if (message.fds.size() == 1) to.key = std::move(message.fds.front());
  wanted.one_time_key = flag_of(request, "one_time_key", false);
  to.plain_data = flag_of(request, "plain_data", false);
  to.hold = flag_of(request, "hold", false);
  to.credentials = request.value("credentials", CredentialsChoice());
  to.transport = request.value("transport", TransportPolicy());
  if (request.contains("prepare_timeout_ms")) {
    to.prepare_timeout = std::chrono::milliseconds(number_of(request, "prepare_timeout_ms"));
  }
  to.switch_timeout = std::chrono::milliseconds(
      number_of(request, "switch_timeout_ms", static_cast<uint64_t>(to.switch_timeout.count())));

  if (to.host.empty() || to.port == 0 || !to.key.valid()) {
    return refuse(client, "a relocation needs host, port and key");
  }
  if (terminating_) return refuse(client, "the VM is being ended");
  if (relocating_to_) {
    return refuse(client,
                  fmt::format("{} is already being relocated to {}", name_, *relocating_to_));
  }
  if (waiting_) {
    return refuse(client,
                  fmt::format("a relocation of {} already waits until it is drained here", name_));
  }
  if (!working_ && !vm_) return refuse(client, fmt::format("{} is not here yet", name_));
  if (!working_) return start_relocation(std::move(wanted));

  // It is being received.
  if (view_.state() != "arriving") {
    return refuse(client, fmt::format("{} is not here yet: this side waits for it", name_));
  }
  if (flag_of(request, "wait", false)) {
    waiting_ = std::move(wanted);
    server_->send(client, {{"event", "waiting"}});
    return;
  }
  auto left = view_.time_to_drain();
  refuse(client,
         fmt::format("{} has arrived but not all of its memory has{}. Use --wait to relocate it "
                     "then",
                     name_, left ? ": about " + duration_text(*left) + " to go" : ""));
}

void Supervisor::on_go(ClientId client) {
  if (waiting_ && waiting_->client == client) {
    waiting_->request.hold = false;
  } else if (std::exchange(held_, false)) {
    mailbox_->put(Request::kGo, "");
  } else {
    refuse(client, "nothing is held: no relocation waits for a word");
  }
}

// Nobody else could say that it may go.
void Supervisor::on_client_gone(ClientId client) {
  if (waiting_ && waiting_->client == client) waiting_.reset();
  if (relocating_for_ == client && std::exchange(held_, false)) {
    mailbox_->put(Request::kAbort, "the command that held it has gone");
  }
}

void Supervisor::on_abort(ClientId client, const std::string& reason) {
  if (waiting_) {
    server_->send(std::exchange(waiting_, std::nullopt)->client,
                  {{"event", "result"},
                   {"end", "stays_here"},
                   {"kind", "aborted"},
                   {"message", "aborted while waiting"}});
  } else if (relocating_to_) {
    mailbox_->put(Request::kAbort, reason);
  } else {
    refuse(client, "nothing to abort: no relocation is under way");
  }
}

void Supervisor::on_drop(ClientId client) {
  const std::string& state = view_.state();
  if (state != "leaving" && state != "unresolved" && state != "in doubt" && state != "given back") {
    return refuse(client, fmt::format("nothing to drop: {} is {}", name_, state));
  }
  dropping_for_ = client;
  mailbox_->put(Request::kDrop, "given up by an operator");
}

void Supervisor::on_resolve(ClientId client, const json& request) {
  const std::string& state = view_.state();
  if (state != "leaving" && state != "unresolved" && state != "in doubt") {
    return refuse(client, fmt::format("nothing is in doubt: {} is {}", name_, state));
  }
  std::string action = text_of(request, "action");
  if (action != "run_here" && action != "give_back") {
    return refuse(client, "a decision is run_here or give_back");
  }
  resolving_for_ = client;
  resolving_to_ = action == "run_here" ? Whose::kThisHosts : Whose::kTheOthers;
  mailbox_->put(action == "run_here" ? Request::kRunHere : Request::kGiveBack,
                "an operator decided so");
}

void Supervisor::start_relocation(Waiting waiting) {
  if (waiting.one_time_key) {
    if (auto kept = keep_one_time_key(waiting.request); !kept) {
      return refuse(waiting.client, kept.error().message());
    }
  }
  relocating_for_ = waiting.client;
  held_ = waiting.request.hold;
  record_.peer = fmt::format("{}:{}", waiting.request.host, waiting.request.port);
  write_record();
  spdlog::info("{}: relocating to {}", name_, record_.peer);
  course_.begin(CourseSide::kSource, record_.peer, view_.to_json());
  run_relocation(std::move(waiting.request),
                 [](Relocation& relocation) { return relocation.run(); });
}

void Supervisor::run_relocation(RelocationRequest request,
                                std::function<RelocationOutcome(Relocation&)> course) {
  auto mailbox = Mailbox::create();
  if (!mailbox) {
    spdlog::error("{}: {}", name_, mailbox.error().message());
    if (relocating_for_ != 0) refuse(std::exchange(relocating_for_, 0), mailbox.error().message());
    return;
  }
  mailbox_ = std::move(*mailbox);
  source_ =
      std::make_unique<SourceSide>(name_, claim_.paths(), vm_, side_news(&VmRecord::exporter));
  relocating_to_ = record_.peer;
  view_.forget_relocation();
  view_.set("peer", record_.peer);
  view_.set_state("preparing");
  working_ = true;
  worker_ = std::thread([this, request = std::move(request), course = std::move(course)]() mutable {
    begin_thread("vmhop-relocate", ThreadRole::kSwitch);
    Relocation relocation(*source_, *mailbox_, std::move(request));
    RelocationOutcome outcome = course(relocation);
    loop_->post([this, outcome] { on_relocated(outcome); });
  });
}

}  // namespace vmhop

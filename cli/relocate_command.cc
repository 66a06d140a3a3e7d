#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "backend/base/control_channel.h"
#include "backend/session/key_passing.h"
#include "backend/session/tcp.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/format.h"
#include "cli/json_access.h"
#include "cli/progress_display.h"
#include "cli/relocation_report.h"
#include "cli/runtime_dir.h"
#include "cli/signals.h"
#include "cli/transport_options.h"

namespace vmhop {
namespace {

using nlohmann::json;

// One relocation as its user follows it.
class RelocateClient {
 public:
  RelocateClient(const RelocateOptions& options, ControlChannel channel, EndSignals signals,
                 uint64_t ram_mib)
      : options_(options),
        channel_(std::move(channel)),
        signals_(std::move(signals)),
        ram_mib_(ram_mib),
        display_(options.name, options.destination, style(options)) {}

  Status request(const HostPort& destination, Secret key);
  Result<int> follow();

 private:
  static ProgressDisplay::Style style(const RelocateOptions& options) {
    if (::isatty(STDERR_FILENO) != 0) return ProgressDisplay::Style::kTerminal;
    return options.json ? ProgressDisplay::Style::kSilent : ProgressDisplay::Style::kLines;
  }
  void on_message(const json& message);
  void on_interrupt();
  void on_closed();
  void conclude(const json& result);
  void print_json(const json& result, const std::string& state);

  const RelocateOptions& options_;
  ControlChannel channel_;
  EndSignals signals_;
  uint64_t ram_mib_;
  ProgressDisplay display_;
  bool committed_ = false;
  bool interrupted_ = false;
  uint64_t blackout_ns_ = 0;
  std::optional<int> exit_code_;
};

Status RelocateClient::request(const HostPort& destination, Secret key) {
  VMHOP_ASSIGN(UniqueFd passed, pass_key(key));
  json message = {{"cmd", "relocate"},
                  {"host", destination.host},
                  {"port", destination.port},
                  {"plain_data", options_.plain_data},
                  {"transport", options_.transport},
                  {"wait", options_.wait},
                  {"switch_timeout_ms", static_cast<uint64_t>(options_.switch_seconds * 1000)}};
  if (options_.prepare_seconds) {
    message["prepare_timeout_ms"] = static_cast<uint64_t>(*options_.prepare_seconds * 1000);
  }
  std::array<int, 1> fds{passed.get()};
  return channel_.send(message, fds);
}

Result<int> RelocateClient::follow() {
  while (!exit_code_) {
    std::array<pollfd, 2> polled{{{channel_.fd(), POLLIN, 0}, {signals_.fd(), POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) {
      return Error::from_errno("poll", errno);
    }
    if (polled[0].revents != 0) {
      if (auto message = channel_.receive(0)) {
        on_message(message->body);
      } else if (message.error().kind() != ErrorKind::kTimedOut) {
        on_closed();
      }
    }
    if (!exit_code_ && polled[1].revents != 0) {
      while (signals_.take() != 0)
        on_interrupt();
    }
  }
  display_.close();
  return *exit_code_;
}

void RelocateClient::on_message(const json& message) {
  std::string event = text_of(message, "event");
  if (event == "result") return conclude(message);
  if (event == "error") {
    display_.close();
    fmt::print(stderr, "vmhop: {}\n", text_of(message, "message"));
    print_json(message, "refused");
    exit_code_ = text_of(message, "kind") == "refused" ? kExitRefused : kExitFailed;
    return;
  }
  if (event == "unresolved") {
    display_.close();
    fmt::print(stderr, "vmhop: {}\n", text_of(message, "message"));
    print_json(message, "unresolved");
    exit_code_ = kExitUnresolved;
    return;
  }
  if (event == "phase" && text_of(message, "phase") == "committed") committed_ = true;
  if (event == "running") blackout_ns_ = number_of(message, "blackout_ns");
  display_.on_event(message);
}

void RelocateClient::on_interrupt() {
  if (committed_) {
    display_.close();
    fmt::print(stderr,
               "vmhop: {0} has been committed to {1}, which goes on without this command. Follow "
               "it with `vmhop status {0} --watch`\n",
               options_.name, options_.destination);
    print_json(json::object(), "detached");
    exit_code_ = kExitDetached;
  } else if (interrupted_) {
    display_.close();
    fmt::print(stderr, "vmhop: left before the abort was confirmed. See `vmhop status {}`\n",
               options_.name);
    exit_code_ = kExitInterrupted;
  } else {
    interrupted_ = true;
    display_.say("aborting");
    if (!channel_.send({{"cmd", "abort"}})) on_closed();
  }
}

void RelocateClient::on_closed() {
  display_.close();
  fmt::print(stderr, "vmhop: the supervisor of {0} has gone. See `vmhop status {0}`\n",
             options_.name);
  print_json(json::object(), "unknown");
  exit_code_ = committed_ ? kExitDetached : kExitFailed;
}

void RelocateClient::conclude(const json& result) {
  display_.close();
  RelocationVerdict verdict =
      judge_relocation(result, options_.name, options_.destination, interrupted_);
  if (!verdict.message.empty()) fmt::print(stderr, "vmhop: {}\n", verdict.message);
  if (!options_.json && verdict.exit_code == kExitDone) {
    fmt::print("{}", report_text(member_of(result, "report"), options_.name, options_.destination,
                                 ram_mib_));
  }
  print_json(result, verdict.state);
  exit_code_ = verdict.exit_code;
}

void RelocateClient::print_json(const json& result, const std::string& state) {
  if (!options_.json) return;
  json line = report_json(member_of(result, "report"), ram_mib_, blackout_ns_);
  line["state"] = state;
  line["vm"] = options_.name;
  std::string message = text_of(result, "message");
  if (!message.empty()) line["message"] = message;
  display_.close();
  fmt::print("{}\n", line.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace

Result<int> relocate(const RelocateOptions& options) {
  VMHOP_ASSIGN(HostPort destination, parse_host_port(options.destination));
  if (destination.host.empty() || destination.port == 0) {
    return refusedf("'{}' is not a destination; write HOST:PORT", options.destination);
  }
  VMHOP_TRY(check_transport(options.transport));
  VMHOP_ASSIGN(Secret key, load_key(options.key_path));
  VMHOP_ASSIGN(std::string base, runtime_base());
  VMHOP_TRY(check_vm_name(base, options.name));
  auto channel = ControlChannel::connect(VmPaths(base, options.name).control_socket());
  if (!channel) {
    return refusedf("no VM named {} runs here. `vmhop status` lists them", options.name);
  }
  VMHOP_TRY(channel->send({{"cmd", "status"}}));
  VMHOP_ASSIGN(ControlMessage status, channel->receive(10'000));
  VMHOP_ASSIGN(EndSignals signals, EndSignals::block());
  RelocateClient client(options, std::move(*channel), std::move(signals),
                        number_of(status.body, "ram_mib"));
  VMHOP_TRY(client.request(destination, std::move(key)));
  return client.follow();
}

}  // namespace vmhop

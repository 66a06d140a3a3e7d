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
#include "cli/logging.h"
#include "cli/progress_display.h"
#include "cli/relocate_by_ssh.h"
#include "cli/relocation_report.h"
#include "cli/runtime_dir.h"
#include "cli/signals.h"
#include "cli/ssh_destination.h"
#include "cli/transport_options.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr std::string_view kGo = "go";

// One relocation as its user follows it.
class RelocateClient {
 public:
  RelocateClient(const RelocateOptions& options, ControlChannel channel, EndSignals signals,
                 uint64_t ram_mib)
      : options_(options),
        channel_(std::move(channel)),
        signals_(std::move(signals)),
        ram_mib_(ram_mib),
        destination_(name_of(options.destination)),
        display_(options.name, destination_, style(options)) {}

  Result<int> relocate_to(const HostPort& destination, const Credentials& credentials);
  // With a receiver that is started there for it.
  Result<int> relocate_by_ssh(const VmPaths& paths);

 private:
  static std::string name_of(const std::string& destination) {
    auto there = parse_ssh_destination(destination);
    return there ? there->host : destination;
  }
  Status request(const HostPort& destination, const Credentials& credentials);
  Result<int> follow();
  void read_word();
  void look_after_receiver();
  void part_with_receiver();
  static ProgressDisplay::Style style(const RelocateOptions& options) {
    bool lines_are_json = log_format() == LogFormat::kJson;
    if (::isatty(STDERR_FILENO) != 0 && !lines_are_json) return ProgressDisplay::Style::kTerminal;
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
  std::string destination_;  // as people call it
  ProgressDisplay display_;
  std::unique_ptr<RemoteReceiver> receiver_;  // of a relocation by ssh
  bool held_ = options_.hold;
  std::string word_;  // as far as it has been read
  bool switching_ = false;
  bool receiver_lost_ = false;
  bool committed_ = false;
  bool interrupted_ = false;
  uint64_t blackout_ns_ = 0;
  std::optional<int> exit_code_;
};

Result<int> RelocateClient::relocate_to(const HostPort& destination,
                                        const Credentials& credentials) {
  VMHOP_TRY(request(destination, credentials));
  return follow();
}

Result<int> RelocateClient::relocate_by_ssh(const VmPaths& paths) {
  VMHOP_ASSIGN(Secret key, Secret::random());
  VMHOP_ASSIGN(receiver_, start_remote_receiver(options_, paths, key));
  display_.say(fmt::format("{}: starting the receiving side at {}", options_.name, destination_));
  auto address = wait_until_ready(*receiver_, signals_, options_);
  if (!address) {
    const Error& cause = address.error();
    interrupted_ = cause.kind() == ErrorKind::kAborted;
    conclude(
        {{"end", "stays_here"}, {"kind", kind_name(cause.kind())}, {"message", cause.message()}});
  } else {
    VMHOP_TRY(request(*address, Credentials(std::move(key))));
    VMHOP_TRY(follow());
  }
  part_with_receiver();
  return *exit_code_;
}

Status RelocateClient::request(const HostPort& destination, const Credentials& credentials) {
  VMHOP_ASSIGN(UniqueFd passed, pass_credentials(credentials));
  json message = {{"cmd", "relocate"},
                  {"host", destination.host},
                  {"port", destination.port},
                  {"plain_data", options_.plain_data},
                  {"transport", options_.transport},
                  {"credentials", absolute(options_.credentials)},
                  {"wait", options_.wait},
                  {"hold", options_.hold},
                  {"one_time_key", receiver_ != nullptr},
                  {"switch_timeout_ms", static_cast<uint64_t>(options_.switch_seconds * 1000)}};
  if (options_.prepare_seconds) {
    message["prepare_timeout_ms"] = static_cast<uint64_t>(*options_.prepare_seconds * 1000);
  }
  std::array<int, 1> fds{passed.get()};
  return channel_.send(message, fds);
}

Result<int> RelocateClient::follow() {
  while (!exit_code_) {
    bool hear_receiver = receiver_ != nullptr && !receiver_->gone();
    std::array<pollfd, 4> polled{{{channel_.fd(), POLLIN, 0},
                                  {signals_.fd(), POLLIN, 0},
                                  {hear_receiver ? receiver_->fd() : -1, POLLIN, 0},
                                  {held_ ? STDIN_FILENO : -1, POLLIN, 0}}};
    int timeout = hear_receiver ? static_cast<int>(RemoteReceiver::kRenewEvery.count()) : -1;
    if (::poll(polled.data(), polled.size(), timeout) < 0 && errno != EINTR) {
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
    if (!exit_code_ && held_ && polled[3].revents != 0) read_word();
    if (!exit_code_ && hear_receiver) look_after_receiver();
  }
  display_.close();
  return *exit_code_;
}

// Of whoever holds it: a line, or nothing more at all.
void RelocateClient::read_word() {
  std::array<char, 64> bytes{};
  ssize_t got = ::read(STDIN_FILENO, bytes.data(), bytes.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got > 0) word_.append(bytes.data(), static_cast<size_t>(got));
  size_t end = word_.find('\n');
  if (got > 0 && end == std::string::npos && word_.size() <= kGo.size()) return;
  held_ = false;
  if (end == std::string::npos || word_.substr(0, end) != kGo) return on_interrupt();
  if (!channel_.send({{"cmd", "go"}})) on_closed();
}

// It ends when ssh does, as long as the VM is not on its way there. After that ssh has no part in
// it.
void RelocateClient::look_after_receiver() {
  receiver_->renew();
  receiver_->update();
  if (!receiver_->gone() || switching_ || committed_ || std::exchange(receiver_lost_, true)) return;
  json abort = {{"cmd", "abort"}, {"reason", receiver_->why_gone().message()}};
  if (!channel_.send(abort)) on_closed();
}

// Its last words may say why the VM is still here.
void RelocateClient::part_with_receiver() {
  bool gone = wait_until_gone(*receiver_, signals_);
  if (committed_) return;
  std::string words = receiver_->last_words();
  if (switching_ && !interrupted_ && !words.empty()) {
    fmt::print(stderr, "vmhop: the receiving side at {} wrote last:{}\n", destination_, words);
  }
  if (!gone) {
    fmt::print(stderr,
               "vmhop: {} has not confirmed that nothing is left there. What is there ends by "
               "itself as soon as it hears that {} stays here, or hears nothing any more\n",
               destination_, options_.name);
  }
}

void RelocateClient::on_message(const json& message) {
  std::string event = text_of(message, "event");
  if (event == "result") return conclude(message);
  if (event == "error") {
    display_.close();
    complain(text_of(message, "message"));
    print_json(message, "refused");
    exit_code_ = text_of(message, "kind") == "refused" ? kExitRefused : kExitFailed;
    return;
  }
  if (event == "unresolved") {
    display_.close();
    complain(text_of(message, "message"));
    print_json(message, "unresolved");
    exit_code_ = kExitUnresolved;
    return;
  }
  if (event == "phase") {
    committed_ = committed_ || text_of(message, "phase") == "committed";
    switching_ = switching_ || text_of(message, "phase") == "switching";
  }
  if (event == "running") blackout_ns_ = number_of(message, "blackout_ns");
  display_.on_event(message);
}

void RelocateClient::on_interrupt() {
  if (committed_) {
    display_.close();
    complain(fmt::format(
        "{0} has been committed to {1}, which goes on without this command. Follow it with "
        "`vmhop status {0} --watch`",
        options_.name, destination_));
    print_json(json::object(), "detached");
    exit_code_ = kExitDetached;
  } else if (interrupted_) {
    display_.close();
    complain(
        fmt::format("left before the abort was confirmed. See `vmhop status {}`", options_.name));
    exit_code_ = kExitInterrupted;
  } else {
    interrupted_ = true;
    display_.say("aborting");
    if (!channel_.send({{"cmd", "abort"}})) on_closed();
  }
}

void RelocateClient::on_closed() {
  display_.close();
  complain(fmt::format("the supervisor of {0} has gone. See `vmhop status {0}`", options_.name));
  print_json(json::object(), "unknown");
  exit_code_ = committed_ ? kExitDetached : kExitFailed;
}

void RelocateClient::conclude(const json& result) {
  display_.close();
  RelocationVerdict verdict = judge_relocation(result, options_.name, destination_, interrupted_);
  if (!verdict.message.empty()) complain(verdict.message);
  if (!options_.json && verdict.exit_code == kExitDone) {
    fmt::print("{}",
               report_text(member_of(result, "report"), options_.name, destination_, ram_mib_));
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

// Before anything is started elsewhere.
Status check_can_leave(const json& status, const RelocateOptions& options) {
  std::string state = text_of(status, "state");
  if (state == "running" || state == "paused") return ok_status();
  if (state != "arriving") {
    return refusedf("{0} cannot be relocated now: it is {1}. See `vmhop status {0}`", options.name,
                    state);
  }
  if (options.wait) return ok_status();
  return refusedf("{} has arrived but not all of its memory has. Use --wait to relocate it then",
                  options.name);
}

}  // namespace

Result<int> relocate(const RelocateOptions& options) {
  bool by_ssh = is_ssh_destination(options.destination);
  HostPort destination;
  if (by_ssh) {
    VMHOP_TRY(parse_ssh_destination(options.destination));
  } else {
    VMHOP_ASSIGN(destination, parse_host_port(options.destination));
    if (destination.host.empty() || destination.port == 0) {
      return refusedf("'{}' is not a destination; write HOST:PORT", options.destination);
    }
  }
  VMHOP_TRY(check_transport(options.transport));
  std::optional<Credentials> credentials;  // that both hosts know; by ssh none are needed
  if (!by_ssh) {
    VMHOP_ASSIGN(credentials, load_credentials(options.credentials, SessionRole::kSource));
  }
  VMHOP_ASSIGN(std::string base, runtime_base());
  VMHOP_TRY(check_vm_name(base, options.name));
  VmPaths paths(base, options.name);
  auto channel = ControlChannel::connect(paths.control_socket());
  if (!channel) {
    return refusedf("no VM named {} runs here. `vmhop status` lists them", options.name);
  }
  VMHOP_TRY(channel->send({{"cmd", "status"}}));
  VMHOP_ASSIGN(ControlMessage status, channel->receive(10'000));
  if (by_ssh) VMHOP_TRY(check_can_leave(status.body, options));
  VMHOP_ASSIGN(EndSignals signals, EndSignals::block());
  RelocateClient client(options, std::move(*channel), std::move(signals),
                        number_of(status.body, "ram_mib"));
  if (by_ssh) return client.relocate_by_ssh(paths);
  return client.relocate_to(destination, *credentials);
}

}  // namespace vmhop

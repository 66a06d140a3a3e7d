#include "cli/relocate_by_ssh.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "cli/argument_map.h"
#include "cli/ssh_destination.h"
#include "cli/vm_record.h"

namespace vmhop {
namespace {

using Clock = RemoteReceiver::Clock;

// ssh gives up connecting after 15 s, and QEMU may take a minute to start.
constexpr std::chrono::seconds kStartTimeout{90};
// What ends there gives its source and its QEMU ten seconds each.
constexpr std::chrono::seconds kEndTimeout{25};

std::string ssh_command(const SshOptions& options) {
  if (!options.command.empty()) return options.command;
  const char* chosen = std::getenv("VMHOP_SSH");
  return chosen != nullptr && *chosen != '\0' ? chosen : "ssh";
}

// Where paths in its QEMU's command line begin that do not begin with a slash.
std::string working_directory(const VmRecord& record) {
  std::error_code failed;
  auto path =
      std::filesystem::read_symlink(fmt::format("/proc/{}/cwd", record.supervisor.pid), failed);
  return failed ? "" : path.string();
}

// The same VM with what differs at that host.
Status describe_vm(const VmRecord& record, const SshOptions& options, ReceiveRequest& request) {
  std::vector<ArgumentMap> maps;
  for (const std::string& text : options.maps) {
    VMHOP_ASSIGN(ArgumentMap map, parse_argument_map(text));
    maps.push_back(std::move(map));
  }
  std::vector<std::string> words = arguments_to_receive_with(record.argv);
  words.push_back(working_directory(record));
  VMHOP_ASSIGN(request.qemu, map_arguments(words, maps));
  request.directory = request.qemu.back();
  request.qemu.pop_back();
  return ok_status();
}

Result<HostPort> data_address(const SshOptions& options) {
  if (options.address.empty()) return HostPort{};
  return parse_data_address(options.address);
}

// Waits until `reached`, or for a signal (kAborted).
Status wait_for(RemoteReceiver& receiver, const EndSignals& signals, Clock::time_point deadline,
                const std::function<bool()>& reached) {
  for (;;) {
    receiver.renew();
    receiver.update();
    if (reached()) return ok_status();
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return Error("no answer came in time", ErrorKind::kTimedOut);
    std::array<pollfd, 2> polled{
        {{receiver.gone() ? -1 : receiver.fd(), POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
    auto round = std::min(left, RemoteReceiver::kRenewEvery);
    if (::poll(polled.data(), polled.size(), static_cast<int>(round.count())) < 0 &&
        errno != EINTR) {
      return Error::from_errno("poll", errno);
    }
    if (polled[1].revents != 0 && signals.take() != 0) return Error("", ErrorKind::kAborted);
  }
}

}  // namespace

Result<std::unique_ptr<RemoteReceiver>> start_remote_receiver(const RelocateOptions& options,
                                                              const VmPaths& paths,
                                                              const Secret& key) {
  VMHOP_ASSIGN(SshDestination there, parse_ssh_destination(options.destination));
  auto record = read_vm_record(paths.directory());
  if (!record) return errorf("{}/vm.json cannot be read", paths.directory());
  if (record->argv.empty()) {
    return refusedf(
        "QEMU of {0} was not started by vmhop, which cannot know how to start it elsewhere. Start "
        "`vmhop pager {0} --listen :4455` and QEMU at {1}, then `vmhop relocate {0} {1}:4455`",
        options.name, there.host);
  }
  ReceiveRequest request;
  request.vm = options.name;
  request.transport = options.transport;
  VMHOP_TRY(describe_vm(*record, options.ssh, request));
  VMHOP_ASSIGN(HostPort address, data_address(options.ssh));
  request.port = address.port;
  VMHOP_ASSIGN(std::vector<std::string> arguments,
               ssh_arguments(ssh_command(options.ssh), there,
                             fmt::format("{} {}", options.ssh.remote_vmhop, kReceiveCommand)));
  return RemoteReceiver::start(arguments, there.host, request, key);
}

Result<HostPort> wait_until_ready(RemoteReceiver& receiver, const EndSignals& signals,
                                  const RelocateOptions& options) {
  auto waited = wait_for(receiver, signals, Clock::now() + kStartTimeout,
                         [&] { return receiver.ready().has_value() || receiver.gone(); });
  if (!waited) return waited.error().with("waiting for the receiving side to start");
  if (receiver.gone()) return receiver.why_gone();
  VMHOP_ASSIGN(HostPort address, data_address(options.ssh));
  VMHOP_ASSIGN(SshDestination there, parse_ssh_destination(options.destination));
  if (address.host.empty()) address.host = receiver.ready()->address;
  if (address.host.empty()) address.host = there.host;
  address.port = receiver.ready()->port;
  return address;
}

bool wait_until_gone(RemoteReceiver& receiver, const EndSignals& signals) {
  receiver.let_go();
  return wait_for(receiver, signals, Clock::now() + kEndTimeout, [&] { return receiver.gone(); })
      .ok();
}

}  // namespace vmhop

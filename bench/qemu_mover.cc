#include <poll.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <optional>
#include <random>

#include "backend/base/ram_file.h"
#include "bench/movers.h"
#include "cli/json_access.h"
#include "tests/lab/blackout.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::Clock;
using lab::within;
using nlohmann::json;

constexpr uint16_t kPort = 4444;
constexpr uint64_t kUnlimited = 1ULL << 40;  // bytes a second; 0 would mean QEMU's default
// A guest that writes faster than the link carries is never done; this is when an operator gives
// up.
constexpr std::chrono::seconds kPrecopyCap{60};
constexpr std::chrono::seconds kPostcopyCap{300};

// A key that both sides find in their own directory, as QEMU's tls-creds-psk reads it.
constexpr const char* kCredentials = "tls";
Status write_key(const lab::VmhopHost& host, const std::string& key) {
  std::ofstream file(host.directory() + "/keys.psk");
  file << "qemu:" << key << "\n" << std::flush;
  return file ? ok_status() : Error("cannot write QEMU's TLS key");
}

std::string random_key() {
  std::random_device random;
  std::string key;
  while (key.size() < 64)
    key += fmt::format("{:08x}", random());
  return key;
}

class QemuMover final : public Mover {
 public:
  QemuMover(QemuMode mode, PageData data, const lab::VmhopHost& source,
            const lab::VmhopHost& destination, uint64_t ram_mib)
      : mode_(mode), data_(data), source_(source), destination_(destination), ram_mib_(ram_mib) {}

  Result<pid_t> start_source(const GuestCommand& guest) override {
    VMHOP_ASSIGN(auto command, with_ram(guest(source_.place()), source_ram_));
    VMHOP_TRY(add_credentials(command, "client,username=qemu", source_));
    VMHOP_ASSIGN(running_, source_.start_program(command));
    auto monitor = source_.monitor(within(30s));
    if (!monitor) return monitor.error().with(running_->err());
    source_monitor_ = std::move(*monitor);
    VMHOP_TRY(configure(*source_monitor_));
    return running_->pid();
  }

  QmpClient& source_monitor() override { return *source_monitor_; }

  Status prepare_destination(const GuestCommand& guest) override {
    VMHOP_ASSIGN(auto command, with_ram(guest(destination_.place()), destination_ram_));
    VMHOP_TRY(add_credentials(command, "server", destination_));
    command.insert(command.end(), {"-incoming", "defer"});
    VMHOP_ASSIGN(receiving_, destination_.start_program(command));
    auto monitor = destination_.monitor(within(30s));
    if (!monitor) return monitor.error().with(receiving_->err());
    destination_monitor_ = std::move(*monitor);
    VMHOP_TRY(configure(*destination_monitor_));
    VMHOP_TRY(destination_monitor_->execute("migrate-incoming", {{"uri", uri()}}));
    return ok_status();
  }

  Result<Move> relocate(Until until) override {
    // What preparing the guest made: a stop and a cont.
    while (source_monitor_->take_event()) {
    }
    seen_ = {};
    auto give_up = within(mode_ == QemuMode::kPrecopy ? kPrecopyCap : kPostcopyCap);
    move_.asked = Clock::now();
    VMHOP_TRY(source_monitor_->execute("migrate", {{"uri", uri()}}));
    for (;;) {
      VMHOP_TRY(take_events());
      if (seen_.source_completed && seen_.destination_completed && seen_.resumed) return move_;
      if (until == Until::kResumed && seen_.stopped && seen_.resumed) {
        move_.completed = move_.resumed;
        return move_;
      }
      if (Clock::now() > give_up) return give_up_moving();
      std::array<pollfd, 2> monitors = {pollfd{source_monitor_->fd(), POLLIN, 0},
                                        pollfd{destination_monitor_->fd(), POLLIN, 0}};
      (void)::poll(monitors.data(), monitors.size(), lab::milliseconds_until(give_up) + 1);
      if (monitors[0].revents != 0) VMHOP_TRY(source_monitor_->process_input());
      if (monitors[1].revents != 0) VMHOP_TRY(destination_monitor_->process_input());
    }
  }

 private:
  struct Seen {
    bool source_completed = false;
    bool destination_completed = false;
    bool stopped = false;
    bool resumed = false;
    bool switched = false;
  };

  // Like with like: RAM that is a shared memory file in transparent huge pages, as vmhop has it. On
  // another kernel, where it cannot be made from here, QEMU makes its own; vmhop has no huge pages
  // there either.
  Result<std::vector<std::string>> with_ram(std::vector<std::string> command,
                                            UniqueFd& file) const {
    for (size_t i = 0; i + 1 < command.size(); ++i) {
      if (command[i] == "-M") command[i + 1] += ",memory-backend=ram";
    }
    command.emplace_back("-object");
    if (data_ == PageData::kByRdma) {
      command.push_back(fmt::format("memory-backend-memfd,id=ram,share=on,size={}M", ram_mib_));
      return command;
    }
    VMHOP_ASSIGN(file, create_ram_file("qemu-ram", ram_mib_ << 20));
    command.push_back(
        fmt::format("memory-backend-file,id=ram,share=on,size={}M,mem-path=/proc/{}/fd/{}",
                    ram_mib_, ::getpid(), file.get()));
    return command;
  }

  std::string uri() const {
    if (data_ == PageData::kByRdma)
      return fmt::format("rdma:{}:{}", destination_.rdma_address(), kPort);
    std::string endpoint = destination_.endpoint();
    return fmt::format("tcp:{}:{}", endpoint.substr(0, endpoint.rfind(':')), kPort);
  }

  Status add_credentials(std::vector<std::string>& command, const std::string& endpoint,
                         const lab::VmhopHost& host) const {
    if (data_ != PageData::kEncrypted) return ok_status();
    VMHOP_TRY(write_key(host, key_));
    command.emplace_back("-object");
    command.push_back(fmt::format("tls-creds-psk,id={},dir={},endpoint={}", kCredentials,
                                  host.directory(), endpoint));
    return ok_status();
  }

  // QEMU's defaults but for the mode, and no limit to the bandwidth.
  Status configure(QmpClient& monitor) const {
    json capabilities = json::array({{{"capability", "events"}, {"state", true}}});
    if (mode_ != QemuMode::kPrecopy) {
      capabilities.push_back({{"capability", "postcopy-ram"}, {"state", true}});
    }
    if (mode_ == QemuMode::kPreempt) {
      capabilities.push_back({{"capability", "postcopy-preempt"}, {"state", true}});
    }
    VMHOP_TRY(monitor.execute("migrate-set-capabilities", {{"capabilities", capabilities}}));
    json parameters = {{"max-bandwidth", kUnlimited}};
    if (data_ == PageData::kEncrypted) parameters["tls-creds"] = kCredentials;
    VMHOP_TRY(monitor.execute("migrate-set-parameters", parameters));
    return ok_status();
  }

  Status take_events() {
    // A command's answer may bring events along, so both are asked until neither has one.
    while (source_monitor_->has_queued_event() || destination_monitor_->has_queued_event()) {
      while (auto event = source_monitor_->take_event())
        VMHOP_TRY(take_from_source(*event));
      while (auto event = destination_monitor_->take_event())
        VMHOP_TRY(take_from_destination(*event));
    }
    return ok_status();
  }

  Status take_from_source(const QmpEvent& event) {
    if (event.name == "STOP") {
      seen_.stopped = true;
      move_.stopped = when(event);
    }
    if (event.name != "MIGRATION") return ok_status();
    std::string status = text_of(event.data, "status");
    if (status == "failed") return Error("QEMU's migration failed at the source");
    if (status == "active" && mode_ != QemuMode::kPrecopy && !seen_.switched) {
      // At once, before the first pass: what vmhop does, and the shortest that postcopy can take.
      seen_.switched = true;
      VMHOP_TRY(source_monitor_->execute("migrate-start-postcopy"));
    }
    if (status == "completed") {
      seen_.source_completed = true;
      move_.completed = std::max(move_.completed, when(event));
    }
    return ok_status();
  }

  Status take_from_destination(const QmpEvent& event) {
    if (event.name == "RESUME") {
      seen_.resumed = true;
      move_.resumed = when(event);
    }
    if (event.name != "MIGRATION") return ok_status();
    std::string status = text_of(event.data, "status");
    if (status == "failed") return Error("QEMU's migration failed at the destination");
    if (status == "completed") {
      seen_.destination_completed = true;
      move_.completed = std::max(move_.completed, when(event));
    }
    return ok_status();
  }

  Result<Move> give_up_moving() {
    if (mode_ != QemuMode::kPrecopy) return Error("QEMU's postcopy does not come to an end");
    VMHOP_TRY(source_monitor_->execute("migrate_cancel"));
    move_.moved = false;
    move_.completed = Clock::now();
    return move_;
  }

  static Clock::time_point when(const QmpEvent& event) {
    return lab::to_steady(std::chrono::nanoseconds(event.timestamp_ns));
  }

  QemuMode mode_;
  PageData data_;
  std::string key_ = random_key();
  const lab::VmhopHost& source_;
  const lab::VmhopHost& destination_;
  uint64_t ram_mib_;
  UniqueFd source_ram_;
  UniqueFd destination_ram_;
  std::optional<lab::Process> running_;
  std::optional<lab::Process> receiving_;
  std::optional<QmpClient> source_monitor_;
  std::optional<QmpClient> destination_monitor_;
  Seen seen_;
  Move move_;
};

}  // namespace

std::unique_ptr<Mover> make_qemu_mover(QemuMode mode, PageData data, const lab::VmhopHost& source,
                                       const lab::VmhopHost& destination, uint64_t ram_mib) {
  return std::make_unique<QemuMover>(mode, data, source, destination, ram_mib);
}

}  // namespace vmhop::bench

#include <optional>

#include "bench/movers.h"
#include "cli/json_access.h"
#include "tests/lab/blackout.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::Clock;
using lab::within;

constexpr const char* kVm = "vm";

class VmhopMover final : public Mover {
 public:
  VmhopMover(PageData data, const lab::VmhopHost& source, const lab::VmhopHost& destination)
      : data_(data), source_(source), destination_(destination) {}

  Result<pid_t> start_source(const GuestCommand& guest) override {
    VMHOP_ASSIGN(running_, source_.run(kVm, guest(source_.place())));
    VMHOP_ASSIGN(source_monitor_, source_.monitor(within(10s)));
    VMHOP_ASSIGN(nlohmann::json status, source_.status(kVm));
    return static_cast<pid_t>(number_of(status, "qemu_pid"));
  }

  QmpClient& source_monitor() override { return *source_monitor_; }

  Status prepare_destination(const GuestCommand& guest) override {
    std::vector<std::string> options;
    if (data_ == PageData::kByRdma) options = {"--rdma-trusted"};
    VMHOP_ASSIGN(receiving_, destination_.receive(kVm, guest(destination_.place()), options));
    VMHOP_ASSIGN(destination_monitor_, destination_.monitor(within(10s)));
    return ok_status();
  }

  Result<Move> relocate(Until until) override {
    Move move;
    move.asked = Clock::now();
    // (The session, device state included, is encrypted all the same.)
    std::vector<std::string> options;
    if (data_ == PageData::kPlain) options = {"--plain-data"};
    if (data_ == PageData::kByRdma) options = {"--rdma-trusted", "--transport", "rdma"};
    VMHOP_ASSIGN(lab::Process relocating, source_.relocate(kVm, destination_.endpoint(), options));
    if (until == Until::kResumed) return follow_to_resume(move);
    VMHOP_ASSIGN(lab::Finished finished, lab::finish(relocating, within(300s)));
    if (!finished.status.clean()) return Error("vmhop relocate: " + finished.describe());
    VMHOP_ASSIGN(auto blackout, lab::read_blackout(*source_monitor_, *destination_monitor_));
    move.stopped = lab::to_steady(blackout.stopped);
    move.resumed = lab::to_steady(blackout.resumed);
    std::chrono::duration<double, std::milli> drained(finished.json().value("drained_ms", 0.0));
    move.completed = move.resumed + std::chrono::duration_cast<Clock::duration>(drained);
    return move;
  }

 private:
  Result<Move> follow_to_resume(Move move) {
    while (move.resumed == Clock::time_point{}) {
      VMHOP_ASSIGN(QmpEvent event, destination_monitor_->next_event(60s));
      if (event.name == "RESUME") move.resumed = when(event);
    }
    // It has told all that it had to; the last one counts, as the guest was stopped before.
    while (auto event = source_monitor_->next_event(200ms)) {
      if (event->name == "STOP") move.stopped = when(*event);
    }
    move.completed = move.resumed;
    return move;
  }

  static Clock::time_point when(const QmpEvent& event) {
    return lab::to_steady(std::chrono::nanoseconds(event.timestamp_ns));
  }

  PageData data_;
  const lab::VmhopHost& source_;
  const lab::VmhopHost& destination_;
  std::optional<lab::Process> running_;
  std::optional<lab::Process> receiving_;
  std::optional<QmpClient> source_monitor_;
  std::optional<QmpClient> destination_monitor_;
};

}  // namespace

std::unique_ptr<Mover> make_vmhop_mover(PageData data, const lab::VmhopHost& source,
                                        const lab::VmhopHost& destination) {
  return std::make_unique<VmhopMover>(data, source, destination);
}

}  // namespace vmhop::bench

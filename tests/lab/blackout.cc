#include "tests/lab/blackout.h"

#include <optional>
#include <vector>

namespace vmhop::lab {
namespace {

// Long enough for an event that is on its way.
constexpr std::chrono::milliseconds kEventTimeout{200};

std::vector<QmpEvent> all_events(QmpClient& monitor) {
  std::vector<QmpEvent> events;
  while (auto event = monitor.next_event(kEventTimeout))
    events.push_back(std::move(*event));
  // Those that came along with the end of the connection.
  while (auto event = monitor.take_event())
    events.push_back(std::move(*event));
  return events;
}

}  // namespace

Result<Blackout> read_blackout(QmpClient& source, QmpClient& destination) {
  std::optional<int64_t> stopped;
  for (const QmpEvent& event : all_events(source)) {
    if (event.name == "STOP") stopped = event.timestamp_ns;
  }
  std::optional<int64_t> resumed;
  for (const QmpEvent& event : all_events(destination)) {
    if (event.name == "RESUME" && !resumed) resumed = event.timestamp_ns;
  }
  if (!stopped || !resumed) return Error("QEMU told no STOP or no RESUME");
  return Blackout{std::chrono::nanoseconds(*stopped), std::chrono::nanoseconds(*resumed)};
}

std::chrono::steady_clock::time_point to_steady(std::chrono::nanoseconds realtime) {
  auto ago = std::chrono::system_clock::now().time_since_epoch() - realtime;
  return std::chrono::steady_clock::now() - ago;
}

}  // namespace vmhop::lab

#include "cli/progress_display.h"

#include <cstdio>

#include "cli/format.h"
#include "cli/json_access.h"
#include "cli/logging.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr int kBarWidth = 24;
constexpr std::chrono::seconds kLineInterval{2};
constexpr const char* kClearLine = "\r\x1b[K";
// A line that is longer than the terminal is wide is cut: one that went on below could not be drawn
// over.
constexpr const char* kCutLines = "\x1b[?7l";
constexpr const char* kWrapLines = "\x1b[?7h";

std::string bar(double share) {
  int filled = static_cast<int>(share / 100 * kBarWidth + 0.5);
  std::string text;
  for (int i = 0; i < kBarWidth; ++i)
    text += i < filled ? "█" : "·";
  return text;
}

}  // namespace

std::string progress_line(const json& progress, double bytes_per_second) {
  uint64_t total = number_of(progress, "pages_total");
  uint64_t resident = number_of(progress, "pages_resident");
  double share = std::min(100.0, percent(resident, total));
  return fmt::format("{} {:5.1f} %  {}/s  {} faults  p50 {}  p99 {}", bar(share), share,
                     format_bytes(static_cast<uint64_t>(bytes_per_second)),
                     format_count(number_of(progress, "faults")),
                     format_duration(number_of(progress, "fault_p50_ns")),
                     format_duration(number_of(progress, "fault_p99_ns")));
}

void ProgressDisplay::on_event(const json& event) {
  std::string name = text_of(event, "event");
  if (name == "progress") {
    if (number_of(event, "pages_total") > 0) draw(event);
  } else if (name == "phase") {
    std::string phase = text_of(event, "phase");
    if (phase == "preparing") say(fmt::format("{}: preparing {}", vm_, destination_));
    if (phase == "rolling_back") say(fmt::format("{}: going back", vm_));
  } else if (name == "transport") {
    bool rdma = text_of(event, "transport") == "rdma";
    std::string detail = text_of(event, "detail");
    say(rdma ? fmt::format("{}: pages travel by RDMA: {}", vm_, detail)
             : fmt::format("{}: pages travel by TCP: {}", vm_, detail));
  } else if (name == "running") {
    say(fmt::format("{} runs at {}, blackout {}", vm_, destination_,
                    format_duration(number_of(event, "blackout_ns"))));
  } else if (name == "held") {
    say(fmt::format("{}: ready. It hops at `go`", vm_));
  } else if (name == "waiting") {
    say(fmt::format("{}: waiting until all of its memory has arrived here", vm_));
  } else if (name == "link" || name == "notice") {
    say(fmt::format("{}: {}", vm_, text_of(event, "message")));
  }
}

void ProgressDisplay::draw(const json& progress) {
  auto now = Clock::now();
  uint64_t bytes = number_of(progress, "bytes_read");
  if (last_sample_ != Clock::time_point{}) {
    double seconds = std::chrono::duration<double>(now - last_sample_).count();
    double moved = bytes > last_bytes_ ? static_cast<double>(bytes - last_bytes_) : 0;
    if (seconds > 0) rate_ += 0.3 * (moved / seconds - rate_);
  }
  last_sample_ = now;
  last_bytes_ = bytes;
  if (style_ == Style::kTerminal) {
    fmt::print(stderr, "{}{}{}{}", kClearLine, kCutLines, progress_line(progress, rate_),
               kWrapLines);
    std::fflush(stderr);
    line_open_ = true;
  } else if (style_ == Style::kLines && now - last_line_ >= kLineInterval) {
    last_line_ = now;
    tell_user(progress_line(progress, rate_));
  }
}

void ProgressDisplay::say(const std::string& message) {
  if (style_ == Style::kSilent) return;
  close();
  tell_user(message);
}

void ProgressDisplay::close() {
  if (line_open_) fmt::print(stderr, "{}", kClearLine);
  line_open_ = false;
}

}  // namespace vmhop

// Shows a relocation under way: on a terminal one line that is redrawn, elsewhere a line now and
// then.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

namespace vmhop {

class ProgressDisplay {
 public:
  enum class Style { kTerminal, kLines, kSilent };

  ProgressDisplay(std::string vm, std::string destination, Style style)
      : vm_(std::move(vm)), destination_(std::move(destination)), style_(style) {}

  void on_event(const nlohmann::json& event);
  // A message of its own line, above the progress.
  void say(const std::string& message);
  // Ends the progress line, if one is drawn.
  void close();

 private:
  using Clock = std::chrono::steady_clock;

  void draw(const nlohmann::json& progress);

  std::string vm_;
  std::string destination_;
  Style style_;
  bool line_open_ = false;
  Clock::time_point last_line_{};
  Clock::time_point last_sample_{};
  uint64_t last_bytes_ = 0;
  double rate_ = 0;  // bytes a second, smoothed
};

// One line of text about a progress message: bar, share, rate, faults and their latency.
std::string progress_line(const nlohmann::json& progress, double bytes_per_second);

}  // namespace vmhop

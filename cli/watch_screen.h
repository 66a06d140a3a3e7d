// `vmhop status --watch` on a terminal: each VM with bars, as wide as the window.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace vmhop {

struct ScreenSize {
  unsigned columns = 80;
  unsigned rows = 24;
};

class WatchScreen {
 public:
  using Clock = std::chrono::steady_clock;

  // What query_vm_status() says now of each VM, by name.
  void take(std::vector<nlohmann::json> statuses, Clock::time_point now);
  // Lines that fit, each ending in a newline. No control sequences.
  std::string draw(const ScreenSize& size) const;

 private:
  struct History {
    std::deque<uint64_t> rates;  // bytes a second, the latest at the end
    uint64_t faults = 0;
    double faults_per_second = 0;
    Clock::time_point at;
  };
  void remember(const nlohmann::json& status, Clock::time_point now);
  std::vector<std::string> lines_of(const nlohmann::json& status, unsigned columns) const;
  std::vector<std::string> progress_lines(const nlohmann::json& status, unsigned columns) const;

  std::vector<nlohmann::json> statuses_;
  std::map<std::string, History> histories_;
};

// `value` in eighths of a block a column; `share` is 0 to 1.
std::string bar(double share, unsigned columns);
// A column for each value, as high as its share of the largest.
std::string sparkline(const std::vector<uint64_t>& values);
// The first columns of a line: a character of UTF-8 is one.
std::string cut_to(const std::string& line, unsigned columns);

}  // namespace vmhop

#include "cli/watch_screen.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "cli/format.h"
#include "cli/json_access.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr size_t kRateHistory = 60;
constexpr unsigned kMaxBar = 60;
constexpr unsigned kLabel = 12;  // before a bar, and what is beside it

constexpr std::array kEighthsWide = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
constexpr std::array kEighthsHigh = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};

std::string repeated(const char* text, unsigned times) {
  std::string all;
  for (unsigned i = 0; i < times; ++i)
    all += text;
  return all;
}

std::string labelled(const char* label, const std::string& text) {
  return fmt::format("  {:<10}{}", label, text);
}

unsigned bar_width(unsigned columns) {
  // Half of the window: the figures take the rest.
  return std::clamp(columns / 2 > kLabel ? columns / 2 - kLabel : 0, 8U, kMaxBar);
}

std::string title_line(const json& status) {
  std::string state = text_of(status, "state");
  if (!flag_of(status, "supervisor", true)) state += " (its supervisor is gone)";
  std::string peer = text_of(status, "peer", text_of(status, "listen"));
  std::string link = status.contains("link") && !flag_of(status, "link", true) ? ", LINK DOWN" : "";
  return fmt::format("{:<16} {}{}{}, {} MiB", text_of(status, "vm"), state,
                     peer.empty() ? "" : "  " + peer, link, number_of(status, "ram_mib"));
}

// A column for each power of two from the shortest to the longest fault.
std::string latency_distribution(const json& progress) {
  std::map<int, uint64_t> by_power;
  for (const json& bucket : member_of(member_of(progress, "fault_latency"), "buckets")) {
    if (!bucket.is_array() || bucket.size() != 2 || !bucket[0].is_number_unsigned() ||
        !bucket[1].is_number_unsigned())
      continue;
    by_power[std::bit_width(bucket[0].get<uint64_t>())] += bucket[1].get<uint64_t>();
  }
  if (by_power.empty()) return "";
  int first = by_power.begin()->first;
  int last = by_power.rbegin()->first;
  std::vector<uint64_t> counts;
  for (int power = first; power <= last; ++power)
    counts.push_back(by_power.count(power) != 0 ? by_power[power] : 0);
  auto bound = [](int power) {
    return format_duration(power > 0 ? uint64_t{1} << (power - 1) : 0);
  };
  return fmt::format("{} {} {}", bound(first), sparkline(counts), bound(std::min(last + 1, 64)));
}

}  // namespace

std::string bar(double share, unsigned columns) {
  auto eighths = static_cast<unsigned>(std::lround(std::clamp(share, 0.0, 1.0) * columns * 8));
  unsigned full = eighths / 8;
  std::string text = repeated("█", full);
  if (full < columns && eighths % 8 != 0) {
    text += kEighthsWide[eighths % 8];
    ++full;
  }
  return text + repeated("·", columns - full);
}

std::string sparkline(const std::vector<uint64_t>& values) {
  uint64_t most = 1;
  for (uint64_t value : values)
    most = std::max(most, value);
  std::string text;
  for (uint64_t value : values) {
    double share = static_cast<double>(value) / static_cast<double>(most);
    auto height = static_cast<size_t>(std::lround(share * 8));
    // What is there is seen, however little it is.
    text += kEighthsHigh[value > 0 ? std::max<size_t>(height, 1) : 0];
  }
  return text;
}

std::string cut_to(const std::string& line, unsigned columns) {
  unsigned used = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    bool begins = (static_cast<unsigned char>(line[i]) & 0xC0U) != 0x80U;
    if (begins && used++ == columns) return line.substr(0, i);
  }
  return line;
}

void WatchScreen::take(std::vector<json> statuses, Clock::time_point now) {
  statuses_ = std::move(statuses);
  std::map<std::string, History> kept;
  for (const json& status : statuses_) {
    std::string vm = text_of(status, "vm");
    if (auto it = histories_.find(vm); it != histories_.end()) kept[vm] = std::move(it->second);
  }
  histories_ = std::move(kept);
  for (const json& status : statuses_)
    remember(status, now);
}

void WatchScreen::remember(const json& status, Clock::time_point now) {
  History& history = histories_[text_of(status, "vm")];
  const json& progress = member_of(status, "progress");
  if (!progress.is_object()) {
    history = {};
    return;
  }
  history.rates.push_back(number_of(status, "bytes_per_second"));
  if (history.rates.size() > kRateHistory) history.rates.pop_front();
  uint64_t faults = number_of(progress, "faults");
  double seconds = std::chrono::duration<double>(now - history.at).count();
  bool known = history.at != Clock::time_point{} && seconds > 0 && faults >= history.faults;
  history.faults_per_second = known ? static_cast<double>(faults - history.faults) / seconds : 0;
  history.faults = faults;
  history.at = now;
}

std::vector<std::string> WatchScreen::progress_lines(const json& status, unsigned columns) const {
  const json& progress = member_of(status, "progress");
  uint64_t total = number_of(progress, "pages_total");
  uint64_t resident = std::min(total, number_of(progress, "pages_resident"));
  const History& history = histories_.at(text_of(status, "vm"));
  unsigned width = bar_width(columns);
  std::string left = format_bytes((total - resident) * number_of(status, "page_bytes"));
  std::string time = status.contains("remaining_ms")
                         ? ", " + format_duration(number_of(status, "remaining_ms") * 1'000'000)
                         : "";
  // The latest that fit.
  std::vector<uint64_t> rates(history.rates.begin(), history.rates.end());
  if (rates.size() > width) rates.erase(rates.begin(), rates.end() - width);
  std::string rate_line =
      sparkline(rates) + repeated(" ", width - static_cast<unsigned>(rates.size()));
  std::vector<std::string> lines = {
      labelled("resident",
               fmt::format("{} {:5.1f} %, {} to go{}", bar(percent(resident, total) / 100, width),
                           percent(resident, total), left, time)),
      labelled("rate", fmt::format("{} {}/s, {} so far", rate_line,
                                   format_bytes(number_of(status, "bytes_per_second")),
                                   format_bytes(number_of(progress, "bytes_read")))),
      labelled(
          "faults",
          fmt::format("{}, {:.0f}/s  p50 {}  p99 {}  longest {}",
                      format_count(number_of(progress, "faults")), history.faults_per_second,
                      duration_of(progress, "fault_p50_ns"), duration_of(progress, "fault_p99_ns"),
                      duration_of(progress, "fault_max_ns")))};
  if (std::string shape = latency_distribution(progress); !shape.empty()) {
    lines.push_back(labelled("latency", shape));
  }
  return lines;
}

std::vector<std::string> WatchScreen::lines_of(const json& status, unsigned columns) const {
  std::vector<std::string> lines = {title_line(status)};
  if (member_of(status, "progress").is_object()) {
    for (std::string& line : progress_lines(status, columns))
      lines.push_back(std::move(line));
  }
  if (status.contains("blackout_ns")) {
    lines.push_back(labelled("blackout", format_duration(number_of(status, "blackout_ns"))));
  }
  if (std::string note = text_of(status, "message"); !note.empty()) {
    lines.push_back(labelled("note", note));
  }
  return lines;
}

std::string WatchScreen::draw(const ScreenSize& size) const {
  if (statuses_.empty()) return cut_to("No VM runs here.", size.columns) + "\n";
  std::vector<std::string> lines;
  for (const json& status : statuses_) {
    for (std::string& line : lines_of(status, size.columns))
      lines.push_back(std::move(line));
  }
  // Too many for the window: a line for each VM tells the most. The last row is the cursor's.
  size_t room = size.rows > 1 ? size.rows - 1 : 1;
  if (lines.size() > room) {
    lines.clear();
    for (const json& status : statuses_) {
      const json& progress = member_of(status, "progress");
      double share =
          percent(number_of(progress, "pages_resident"), number_of(progress, "pages_total"));
      lines.push_back(
          title_line(status) +
          (progress.is_object() ? fmt::format("  {} {:.1f} %", bar(share / 100, 10), share) : ""));
    }
  }
  size_t hidden = lines.size() > room ? lines.size() - (room - 1) : 0;
  if (hidden > 0) {
    lines.resize(room - 1);
    lines.push_back(fmt::format("... and {} more; the window is too small", hidden));
  }
  std::string text;
  for (const std::string& line : lines)
    text += cut_to(line, size.columns) + "\n";
  return text;
}

}  // namespace vmhop

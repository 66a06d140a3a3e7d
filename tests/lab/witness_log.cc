#include "tests/lab/witness_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace vmhop::lab {
namespace {

constexpr size_t kMostComplaints = 20;

// Takes a number and the space after it off the front.
template <typename Number>
std::optional<Number> take_number(std::string_view& text) {
  Number value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  if (!text.empty() && text[0] == ' ') text.remove_prefix(1);
  return value;
}

void complain(std::vector<std::string>& complaints, const std::string& line) {
  if (complaints.size() < kMostComplaints) complaints.push_back(line);
}

std::string join(const std::vector<std::string>& complaints) {
  std::string text;
  for (const std::string& each : complaints)
    text += "\n  " + each;
  return text;
}

}  // namespace

std::optional<uint64_t> field(std::string_view line, std::string_view name) {
  std::string wanted = fmt::format(" {}=", name);
  size_t at = line.find(wanted);
  if (at == std::string_view::npos) return std::nullopt;
  line.remove_prefix(at + wanted.size());
  return take_number<uint64_t>(line);
}

std::optional<Heartbeat> parse_heartbeat(std::string_view line) {
  if (!line.starts_with("HB ")) return std::nullopt;
  std::string_view rest = line.substr(3);
  auto number = take_number<uint64_t>(rest);
  auto guest_ns = take_number<int64_t>(rest);
  auto passes = field(line, "passes");
  auto errors = field(line, "errors");
  if (!number || !guest_ns || !passes || !errors) return std::nullopt;
  return Heartbeat{*number, *guest_ns, *passes, *errors};
}

WitnessReport read_witness(std::span<const Line> lines) {
  WitnessReport report;
  uint64_t last = 0;
  Clock::time_point last_at{};
  for (const Line& line : lines) {
    const std::string& text = line.text;
    if (auto beat = parse_heartbeat(text)) {
      if (report.heartbeats > 0) {
        if (beat->number <= last) ++report.doubled;
        if (beat->number > last + 1) report.missing += beat->number - last - 1;
        if (line.at - last_at > report.longest_gap) {
          report.longest_gap = line.at - last_at;
          report.gap_began = last_at;
        }
      }
      last = std::max(last, beat->number);
      last_at = line.at;
      ++report.heartbeats;
      report.passes = std::max(report.passes, beat->passes);
      report.errors = std::max(report.errors, beat->errors);
    } else if (text.starts_with("SYNC ")) {
      std::string_view rest = std::string_view(text).substr(5);
      report.synced = std::max(report.synced, take_number<uint64_t>(rest).value_or(0));
    } else if (text.starts_with("STATUS ") || text.starts_with("BYE ")) {
      report.passes = std::max(report.passes, field(text, "passes").value_or(0));
      report.errors = std::max(report.errors, field(text, "errors").value_or(0));
      report.synced = std::max(report.synced, field(text, "synced").value_or(0));
    } else if (text.starts_with("WITNESS-ERROR") || text.starts_with("DISK-ERROR") ||
               text.starts_with("FATAL") || text.starts_with("HB ")) {
      complain(report.complaints, text);
    }
  }
  return report;
}

std::string WitnessReport::describe() const {
  return fmt::format(
      "{} heartbeats ({} missing, {} doubled), {} passes, {} errors, {} records synced{}",
      heartbeats, missing, doubled, passes, errors, synced, join(complaints));
}

Clock::duration longest_gap_within(std::span<const Line> lines, Clock::time_point from,
                                   Clock::time_point to) {
  Clock::duration longest{};
  std::optional<Clock::time_point> last;
  for (const Line& line : lines) {
    if (!line.text.starts_with("HB ")) continue;
    if (last && line.at >= from && *last <= to) longest = std::max(longest, line.at - *last);
    last = line.at;
  }
  return longest;
}

BaremetalReport read_baremetal(std::span<const Line> lines) {
  BaremetalReport report;
  for (const Line& line : lines) {
    const std::string& text = line.text;
    if (text.starts_with("BM PASS ")) {
      std::string_view rest = std::string_view(text).substr(8);
      uint64_t pass = take_number<uint64_t>(rest).value_or(0);
      report.in_order = report.in_order && pass == report.passes + 1;
      report.passes = pass;
      report.errors = std::max(report.errors, field(text, "errors").value_or(1));
    } else if (text.starts_with("BM ERROR")) {
      complain(report.complaints, text);
    }
  }
  return report;
}

std::string BaremetalReport::describe() const {
  return fmt::format("{} passes{}, {} errors{}", passes, in_order ? "" : " OUT OF ORDER", errors,
                     join(complaints));
}

}  // namespace vmhop::lab

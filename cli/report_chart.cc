#include "cli/report_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "cli/format.h"

namespace vmhop {
namespace {

// In the units of the view box.
constexpr double kWidth = 800;
constexpr double kLeft = 110;
constexpr double kRight = 780;
constexpr double kRow = 26;
constexpr double kBar = 18;
constexpr double kAxis = 24;  // below the rows
constexpr double kPlotHeight = 150;
constexpr double kPlotTop = 18;
constexpr double kPlotBottom = kPlotTop + kPlotHeight;
// So that what is short can be seen.
constexpr double kThinnest = 1.5;

double to_x(double time, const TimeRange& range) {
  double span = range.to - range.from;
  double share = span > 0 ? (time - range.from) / span : 0;
  return kLeft + std::clamp(share, 0.0, 1.0) * (kRight - kLeft);
}

// 1, 2 or 5 times a power of ten: about six of them in `span`.
double nice_step(double span) {
  if (span <= 0) return 1;
  double rough = span / 6;
  double power = std::pow(10, std::floor(std::log10(rough)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

std::string time_tick(double seconds, double span) {
  if (span < 2) return fmt::format("{:g} ms", std::round(seconds * 1e6) / 1e3);
  return fmt::format("{:g} s", std::round(seconds * 1e3) / 1e3);
}

std::string open_svg(const ChartFrame& frame, double height) {
  return fmt::format(
      "<svg id=\"{0}\" viewBox=\"0 0 {1:g} {2:g}\" role=\"img\" aria-label=\"{3}\">\n", frame.id,
      kWidth, height, html_escape(frame.title));
}

std::string vertical(const char* css, double x, double top, double bottom) {
  return fmt::format(
      "<line class=\"{}\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>\n", css, x, x,
      top, bottom);
}

std::string label(double x, double y, const char* anchor, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     html_escape(text));
}

std::string time_axis(const TimeRange& range, double top, double bottom) {
  std::string svg;
  double span = range.to - range.from;
  double step = nice_step(span);
  // Counted in whole steps: sums of fractions drift.
  auto first = static_cast<int>(std::ceil(range.from / step - 1e-9));
  for (int i = first; i * step <= range.to + step * 1e-9 && i < first + 20; ++i) {
    double x = to_x(i * step, range);
    svg += vertical("grid", x, top, bottom);
    svg += label(x, bottom + 15, "middle", time_tick(i * step, span));
  }
  return svg;
}

std::string phase_row(const ChartPhase& phase, const TimeRange& range, double y) {
  double left = to_x(phase.time.from, range);
  double width = std::max(kThinnest, to_x(phase.time.to, range) - left);
  left = std::min(left, kRight - kThinnest);
  auto lasted = static_cast<uint64_t>(std::max(0.0, phase.time.to - phase.time.from) * 1e9);
  std::string duration = format_duration(lasted);
  bool room_behind = left + width < kRight - 80;
  return fmt::format("<g class=\"phase\" data-phase=\"{0}\"><title>{0}: {1}</title>\n",
                     html_escape(phase.name), duration) +
         label(kLeft - 8, y + 17, "end", phase.name) +
         fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:g}\"/>\n", left,
                     y + (kRow - kBar) / 2, width, kBar) +
         (room_behind ? label(left + width + 6, y + 17, "start", duration)
                      : label(left - 6, y + 17, "end", left > kLeft + 90 ? duration : "")) +
         "</g>\n";
}

std::string value_axis(double top, const ValueText& value_text) {
  std::string svg;
  for (double share : {0.0, 0.5, 1.0}) {
    svg += label(kLeft - 8, kPlotBottom - share * kPlotHeight + 4, "end", value_text(share * top));
  }
  return svg;
}

double log_of(uint64_t ns) {
  return std::log2(static_cast<double>(std::max<uint64_t>(ns, 1)));
}

// A bucket is a quarter of a power of two wide.
uint64_t lower_end(const LatencyBucket& bucket) {
  uint64_t width = std::max<uint64_t>(std::bit_floor(bucket.upper_ns) / 4, 1);
  return bucket.upper_ns + 1 - std::min(width, bucket.upper_ns);
}

std::string latency_tick(double ns) {
  if (ns < 1e6) return fmt::format("{:g} µs", ns / 1e3);
  if (ns < 1e9) return fmt::format("{:g} ms", ns / 1e6);
  return fmt::format("{:g} s", ns / 1e9);
}

// A line at one, two and five times each power of ten; all of them named only where there is room.
std::string latency_axis(const TimeRange& log_range) {
  bool wide = log_range.to - log_range.from > 8;
  std::string svg;
  for (double power = 1e3; power < 1e12; power *= 10) {
    for (double factor : {1.0, 2.0, 5.0}) {
      double at = std::log2(power * factor);
      if (at < log_range.from || at > log_range.to) continue;
      double x = to_x(at, log_range);
      svg += vertical("grid", x, kPlotTop, kPlotBottom);
      if (factor == 1 || !wide) {
        svg += label(x, kPlotBottom + 15, "middle", latency_tick(power * factor));
      }
    }
  }
  return svg;
}

std::string latency_bar(const LatencyBucket& bucket, const TimeRange& log_range, uint64_t most) {
  uint64_t lower = lower_end(bucket);
  double left = to_x(log_of(lower), log_range);
  double right = to_x(log_of(bucket.upper_ns + 1), log_range);
  double share = static_cast<double>(bucket.count) / static_cast<double>(most);
  double height = std::max(share * kPlotHeight, 1.0);
  return fmt::format(
      "<rect class=\"bucket\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\">"
      "<title>{} to {}: {} faults</title></rect>\n",
      left, kPlotBottom - height, std::max(right - left - 0.6, 0.6), height, format_duration(lower),
      format_duration(bucket.upper_ns), format_count(bucket.count));
}

bool overlaps(const TimeRange& one, const TimeRange& other) {
  return one.from <= other.to && one.to >= other.from;
}

}  // namespace

std::string html_escape(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  for (char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string phase_chart(const ChartFrame& frame, const std::vector<ChartPhase>& phases,
                        const std::vector<ChartMark>& marks) {
  std::vector<ChartPhase> shown;
  for (const ChartPhase& phase : phases) {
    if (overlaps(phase.time, frame.time)) shown.push_back(phase);
  }
  double bottom = kRow * static_cast<double>(shown.size());
  std::string svg = open_svg(frame, bottom + kAxis) + time_axis(frame.time, 0, bottom);
  for (size_t i = 0; i < shown.size(); ++i)
    svg += phase_row(shown[i], frame.time, kRow * static_cast<double>(i));
  for (const ChartMark& mark : marks) {
    if (!overlaps({mark.at, mark.at}, frame.time)) continue;
    svg += fmt::format("<g class=\"mark\"><title>{}</title>\n", html_escape(mark.text)) +
           vertical("mark", to_x(mark.at, frame.time), 0, bottom) + "</g>\n";
  }
  return svg + "</svg>\n";
}

std::string area_chart(const ChartFrame& frame, const ChartPoints& points, double top,
                       const ValueText& value_text) {
  for (const auto& [time, value] : points)
    top = std::max(top, value);
  if (top <= 0) top = 1;
  std::string svg = open_svg(frame, kPlotBottom + kAxis) +
                    time_axis(frame.time, kPlotTop, kPlotBottom) + value_axis(top, value_text);
  if (points.empty()) return svg + "</svg>\n";
  std::string path;
  for (const auto& [time, value] : points) {
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : " L", to_x(time, frame.time),
                        kPlotBottom - std::max(0.0, value) / top * kPlotHeight);
  }
  svg += fmt::format("<path class=\"area\" d=\"{} L{:.1f} {:.1f} L{:.1f} {:.1f} Z\"/>\n", path,
                     to_x(points.back().first, frame.time), kPlotBottom,
                     to_x(points.front().first, frame.time), kPlotBottom);
  svg += fmt::format("<path class=\"line\" d=\"{}\"/>\n", path);
  return svg + "</svg>\n";
}

std::string latency_chart(const ChartFrame& frame, const std::vector<LatencyBucket>& buckets,
                          const std::vector<std::pair<std::string, uint64_t>>& quantiles_ns) {
  std::string svg = open_svg(frame, kPlotBottom + kAxis);
  if (buckets.empty()) return svg + "</svg>\n";
  TimeRange range{std::floor(log_of(lower_end(buckets.front()))),
                  std::ceil(log_of(buckets.back().upper_ns + 1))};
  uint64_t most = 1;
  for (const LatencyBucket& bucket : buckets)
    most = std::max(most, bucket.count);
  svg += latency_axis(range);
  svg += value_axis(static_cast<double>(most),
                    [](double value) { return format_count(static_cast<uint64_t>(value)); });
  for (const LatencyBucket& bucket : buckets)
    svg += latency_bar(bucket, range, most);
  for (const auto& [name, ns] : quantiles_ns) {
    if (ns == 0) continue;
    double x = to_x(log_of(ns), range);
    svg += vertical("quantile", x, kPlotTop, kPlotBottom);
    bool room_behind = x < kRight - 90;
    svg += label(room_behind ? x + 4 : x, kPlotTop - 6, room_behind ? "start" : "end",
                 fmt::format("{} {}", name, format_duration(ns)));
  }
  return svg + "</svg>\n";
}

}  // namespace vmhop

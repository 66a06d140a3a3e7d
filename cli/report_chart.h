// Charts as SVG that stands in an HTML page, which gives the colours (report_page.cc).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vmhop {

// For text and for attributes in double quotes.
std::string html_escape(std::string_view text);

// Times are seconds.
struct TimeRange {
  double from = 0;
  double to = 0;
};

struct ChartPhase {
  std::string name;
  TimeRange time;
};

struct ChartMark {
  double at;
  std::string text;
};

struct ChartFrame {
  std::string id;
  std::string title;  // what a screen reader says of it
  TimeRange time;     // what it shows
};

// A row for each phase that the frame shows, and a line across them for each mark.
std::string phase_chart(const ChartFrame& frame, const std::vector<ChartPhase>& phases,
                        const std::vector<ChartMark>& marks);

using ChartPoints = std::vector<std::pair<double, double>>;  // time, value
using ValueText = std::function<std::string(double)>;

// An area below a line, from 0 to `top` or what the values need.
std::string area_chart(const ChartFrame& frame, const ChartPoints& points, double top,
                       const ValueText& value_text);

struct LatencyBucket {
  uint64_t upper_ns;
  uint64_t count;
};

// The buckets of Histogram::buckets(), on a logarithmic axis of time; lines at the quantiles.
std::string latency_chart(const ChartFrame& frame, const std::vector<LatencyBucket>& buckets,
                          const std::vector<std::pair<std::string, uint64_t>>& quantiles_ns);

}  // namespace vmhop

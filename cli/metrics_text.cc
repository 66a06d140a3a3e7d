#include "cli/metrics_text.h"

#include <fmt/format.h>

namespace vmhop {
namespace {

std::string escaped(const std::string& text) {
  std::string safe;
  for (char c : text) {
    if (c == '\\') {
      safe += "\\\\";
    } else if (c == '"') {
      safe += "\\\"";
    } else if (c == '\n') {
      safe += "\\n";
    } else {
      safe += c;
    }
  }
  return safe;
}

const char* type_name(MetricType type, MetricsFormat format) {
  switch (type) {
    case MetricType::kGauge:
      return "gauge";
    case MetricType::kCounter:
      return "counter";
    case MetricType::kHistogram:
      return "histogram";
    case MetricType::kInfo:
      return format == MetricsFormat::kOpenMetrics ? "info" : "gauge";
  }
  return "unknown";
}

}  // namespace

const char* content_type_of(MetricsFormat format) {
  return format == MetricsFormat::kOpenMetrics
             ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
             : "text/plain; version=0.0.4; charset=utf-8";
}

// OpenMetrics describes the family, Prometheus' own format the sample.
std::string MetricsText::sample_name() const {
  if (family_.type == MetricType::kCounter) return family_.name + "_total";
  if (family_.type == MetricType::kInfo) return family_.name + "_info";
  return family_.name;
}

void MetricsText::begin(const MetricFamily& family) {
  family_ = family;
  bool open = format_ == MetricsFormat::kOpenMetrics;
  std::string described = open ? family.name : sample_name();
  text_ += fmt::format("# TYPE {} {}\n", described, type_name(family.type, format_));
  if (open && !family.unit.empty()) text_ += fmt::format("# UNIT {} {}\n", described, family.unit);
  text_ += fmt::format("# HELP {} {}\n", described, escaped(family.help));
}

void MetricsText::line(const std::string& name, const MetricLabels& labels,
                       const std::string& value) {
  text_ += name;
  for (size_t i = 0; i < labels.size(); ++i) {
    text_ +=
        fmt::format("{}{}=\"{}\"", i == 0 ? "{" : ",", labels[i].first, escaped(labels[i].second));
  }
  if (!labels.empty()) text_ += "}";
  text_ += " " + value + "\n";
}

void MetricsText::sample(const MetricLabels& labels, uint64_t value) {
  line(sample_name(), labels, std::to_string(value));
}

void MetricsText::sample(const MetricLabels& labels, double value) {
  line(sample_name(), labels, fmt::format("{}", value));
}

void MetricsText::histogram(const MetricLabels& labels, const std::vector<MetricBucket>& buckets,
                            uint64_t count, double sum) {
  auto bucket = [&](const std::string& upper, uint64_t cumulative) {
    MetricLabels with_upper = labels;
    with_upper.emplace_back("le", upper);
    line(family_.name + "_bucket", with_upper, std::to_string(cumulative));
  };
  for (const MetricBucket& each : buckets)
    bucket(fmt::format("{}", each.upper), each.cumulative);
  bucket("+Inf", count);
  line(family_.name + "_count", labels, std::to_string(count));
  line(family_.name + "_sum", labels, fmt::format("{}", sum));
}

std::string MetricsText::finish() {
  if (format_ == MetricsFormat::kOpenMetrics) text_ += "# EOF\n";
  return std::move(text_);
}

}  // namespace vmhop

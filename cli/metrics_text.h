// Metrics as text, for a scrape by OpenMetrics 1.0 or by the older format of Prometheus, which is
// all that node_exporter's textfile collector takes. They differ in what a counter is called, and
// in the end.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace vmhop {

enum class MetricsFormat { kOpenMetrics, kPrometheus };
// As the HTTP header Content-Type.
const char* content_type_of(MetricsFormat format);

enum class MetricType { kGauge, kCounter, kHistogram, kInfo };

struct MetricFamily {
  std::string name;  // with its unit, without _total, _info or _bucket
  MetricType type = MetricType::kGauge;
  std::string unit;  // the end of its name; empty: a number
  std::string help;
};

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

struct MetricBucket {
  double upper;         // the largest value that it counts
  uint64_t cumulative;  // how many are as large or smaller
};

class MetricsText {
 public:
  explicit MetricsText(MetricsFormat format) : format_(format) {}

  // What follows is of this family; each has its place once. It is named even without a sample, so
  // that it can be found.
  void begin(const MetricFamily& family);
  void sample(const MetricLabels& labels, uint64_t value);
  void sample(const MetricLabels& labels, double value);
  // `buckets` in ascending order; the one without an end is made of `count`.
  void histogram(const MetricLabels& labels, const std::vector<MetricBucket>& buckets,
                 uint64_t count, double sum);

  // All of it. Nothing can be added afterwards.
  std::string finish();

 private:
  void line(const std::string& name, const MetricLabels& labels, const std::string& value);
  std::string sample_name() const;

  MetricsFormat format_;
  MetricFamily family_;
  std::string text_;
};

}  // namespace vmhop

// Reads OpenMetrics 1.0 as text, and is strict: what the specification forbids is an error, so that
// a test which reads metrics with it knows that whoever collects them can.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/result.h"

namespace vmhop {

using LabelSet = std::map<std::string, std::string>;

struct MetricSample {
  std::string name;
  LabelSet labels;
  double value = 0;
};

struct ReadFamily {
  std::string name;
  std::string type;
  std::string unit;
  std::string help;
  std::vector<MetricSample> samples;

  // What a query may call its samples.
  std::vector<std::string> sample_names() const;
};

// In their order. An error names the line.
Result<std::vector<ReadFamily>> parse_openmetrics(const std::string& text);

// The value of one sample; nothing when there is none, or another one like it.
std::optional<double> value_of(const std::vector<ReadFamily>& families, const std::string& name,
                               const LabelSet& labels);

}  // namespace vmhop

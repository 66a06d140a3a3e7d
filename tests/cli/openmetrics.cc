#include "tests/cli/openmetrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>

namespace vmhop {
namespace {

const std::set<std::string> kTypes = {"gauge",    "counter", "histogram", "gaugehistogram",
                                      "stateset", "info",    "summary",   "unknown"};

bool is_name(const std::string& text, const char* also) {
  auto allowed = [also](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           std::string_view(also).find(c) != std::string_view::npos;
  };
  auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return !text.empty() && allowed(text[0]) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return allowed(c) || digit(c); });
}

// A number as the format has it: no spaces, no plus sign but before Inf.
std::optional<double> number_in(const std::string& text) {
  if (text == "+Inf") return std::numeric_limits<double>::infinity();
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  double value = 0;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

class Reader {
 public:
  Result<std::vector<ReadFamily>> read(const std::string& text);

 private:
  Status line(const std::string& text);
  Status descriptor(const std::string& text);
  Status sample(const std::string& text);
  Result<MetricSample> split(const std::string& text) const;
  Result<std::string> quoted(const std::string& text, size_t& at) const;
  Status begin(const std::string& name);
  Status finish() const;
  Status finish_histogram() const;

  std::vector<ReadFamily> families_;
  std::set<std::string> seen_;     // descriptors of the family under way
  std::set<std::string> samples_;  // name and labels, of all families
  bool ended_ = false;
};

Result<std::vector<ReadFamily>> Reader::read(const std::string& text) {
  size_t at = 0;
  for (unsigned number = 1; at < text.size(); ++number) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) return errorf("line {} has no end", number);
    std::string one = text.substr(at, end - at);
    if (auto fine = line(one); !fine) {
      return fine.error().with(fmt::format("line {} ({})", number, one));
    }
    at = end + 1;
  }
  if (!ended_) return Error("# EOF is missing");
  VMHOP_TRY(finish());
  return std::move(families_);
}

Status Reader::line(const std::string& text) {
  if (ended_) return Error("something follows # EOF");
  if (text == "# EOF") {
    ended_ = true;
    return ok_status();
  }
  if (text.empty()) return Error("an empty line");
  if (text.find('\r') != std::string::npos) return Error("a carriage return");
  return text[0] == '#' ? descriptor(text) : sample(text);
}

Status Reader::begin(const std::string& name) {
  if (!families_.empty() && families_.back().name == name) return ok_status();
  if (!families_.empty()) VMHOP_TRY(finish());
  for (const ReadFamily& family : families_) {
    if (family.name == name) return Error("a family in two places");
  }
  families_.push_back({name, "unknown", "", "", {}});
  seen_.clear();
  return ok_status();
}

Status Reader::descriptor(const std::string& text) {
  if (!text.starts_with("# ")) return Error("a comment; there are none in OpenMetrics");
  size_t first = text.find(' ', 2);
  size_t second = text.find(' ', first + 1);
  if (first == std::string::npos || second == std::string::npos) return Error("cut short");
  std::string kind = text.substr(2, first - 2);
  std::string name = text.substr(first + 1, second - first - 1);
  std::string rest = text.substr(second + 1);
  if (!is_name(name, ":")) return Error("no name for a family");
  VMHOP_TRY(begin(name));
  ReadFamily& family = families_.back();
  if (!family.samples.empty()) return Error("it comes after samples");
  if (!seen_.insert(kind).second) return Error("it comes twice");
  if (kind == "TYPE") {
    if (!kTypes.contains(rest)) return Error("no such type");
    family.type = rest;
  } else if (kind == "UNIT") {
    if (!name.ends_with("_" + rest)) return Error("the name does not end in the unit");
    family.unit = rest;
  } else if (kind == "HELP") {
    for (size_t i = 0; i < rest.size(); ++i) {
      if (rest[i] == '"') return Error("a quote that is not escaped");
      if (rest[i] == '\\' && (i + 1 == rest.size() ||
                              std::string_view("\\n\"").find(rest[++i]) == std::string_view::npos))
        return Error("no such escape");
    }
    family.help = rest;
  } else {
    return Error("no such descriptor");
  }
  return ok_status();
}

// A quoted value; `at` is at its first quote, and behind its last one afterwards.
Result<std::string> Reader::quoted(const std::string& text, size_t& at) const {
  if (at >= text.size() || text[at] != '"') return Error("a value without quotes");
  std::string value;
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] != '\\') {
      value += text[at];
      continue;
    }
    if (++at == text.size()) break;
    if (text[at] != '\\' && text[at] != '"' && text[at] != 'n') return Error("no such escape");
    value += text[at] == 'n' ? '\n' : text[at];
  }
  if (at >= text.size()) return Error("a value without an end");
  ++at;
  return value;
}

Result<MetricSample> Reader::split(const std::string& text) const {
  MetricSample sample;
  size_t at = text.find_first_of("{ ");
  if (at == std::string::npos) return Error("no value");
  sample.name = text.substr(0, at);
  if (!is_name(sample.name, ":")) return Error("no name for a metric");
  if (text[at] == '{') {
    do {
      size_t equals = text.find('=', ++at);
      if (equals == std::string::npos) return Error("a label without a value");
      std::string name = text.substr(at, equals - at);
      if (!is_name(name, "") || name.starts_with("__")) return Error("no name for a label");
      at = equals + 1;
      VMHOP_ASSIGN(std::string value, quoted(text, at));
      if (!sample.labels.emplace(name, value).second) return Error("a label twice");
    } while (at < text.size() && text[at] == ',');
    if (at >= text.size() || text[at++] != '}') return Error("labels without an end");
  }
  if (at >= text.size() || text[at] != ' ') return Error("no space before the value");
  auto value = number_in(text.substr(at + 1));
  if (!value) return Error("no number");
  sample.value = *value;
  return sample;
}

Status Reader::sample(const std::string& text) {
  VMHOP_ASSIGN(MetricSample read, split(text));
  if (families_.empty()) return Error("a sample without its family");
  ReadFamily& family = families_.back();
  auto names = family.sample_names();
  if (std::find(names.begin(), names.end(), read.name) == names.end()) {
    return errorf("it is none of {}, a {}", family.name, family.type);
  }
  std::string identity = read.name;
  for (const auto& [label, value] : read.labels)
    identity += "\n" + label + "\n" + value;
  if (!samples_.insert(identity).second) return Error("it was there already");
  bool counts = family.type == "counter" || family.type == "histogram";
  if (counts && !(read.value >= 0)) return Error("a count below zero, or none");
  if (family.type == "info" && (read.value != 1 || read.labels.empty())) {
    return Error("an info is 1, and says something");
  }
  if (read.name.ends_with("_bucket") != read.labels.contains("le")) {
    return Error("le is for buckets, and they have it");
  }
  family.samples.push_back(std::move(read));
  return ok_status();
}

Status Reader::finish() const {
  const ReadFamily& family = families_.back();
  if (family.type == "info" && !family.unit.empty()) return Error("an info has no unit");
  if (family.type == "histogram") return finish_histogram();
  return ok_status();
}

// For each set of labels: buckets upwards to +Inf, then count and sum.
Status Reader::finish_histogram() const {
  const ReadFamily& family = families_.back();
  auto trouble = [&](const char* what) { return errorf("{}: {}", family.name, what); };
  double upper = -std::numeric_limits<double>::infinity();
  double below = 0;
  LabelSet labels;
  enum { kBuckets, kCount, kSum } expected = kBuckets;
  for (const MetricSample& sample : family.samples) {
    LabelSet others = sample.labels;
    others.erase("le");
    if (expected == kBuckets && std::isinf(upper) && upper < 0) labels = others;
    if (others != labels) return trouble("a histogram in two places, or an incomplete one");
    if (expected == kBuckets) {
      if (!sample.name.ends_with("_bucket")) return trouble("a bucket for +Inf is missing");
      auto bound = number_in(sample.labels.at("le"));
      if (!bound || !(*bound > upper)) return trouble("bounds do not rise");
      if (sample.value < below) return trouble("buckets are not cumulative");
      upper = *bound;
      below = sample.value;
      if (std::isinf(upper)) expected = kCount;
    } else if (expected == kCount) {
      if (!sample.name.ends_with("_count") || sample.value != below)
        return trouble("count differs");
      expected = kSum;
    } else {
      if (!sample.name.ends_with("_sum")) return trouble("no sum");
      expected = kBuckets;
      upper = -std::numeric_limits<double>::infinity();
      below = 0;
    }
  }
  if (expected != kBuckets || upper > 0) return trouble("a histogram is cut short");
  return ok_status();
}

}  // namespace

std::vector<std::string> ReadFamily::sample_names() const {
  if (type == "counter") return {name + "_total", name + "_created"};
  if (type == "histogram") return {name + "_bucket", name + "_count", name + "_sum"};
  if (type == "info") return {name + "_info"};
  return {name};
}

Result<std::vector<ReadFamily>> parse_openmetrics(const std::string& text) {
  return Reader().read(text);
}

std::optional<double> value_of(const std::vector<ReadFamily>& families, const std::string& name,
                               const LabelSet& labels) {
  std::optional<double> found;
  for (const ReadFamily& family : families) {
    for (const MetricSample& sample : family.samples) {
      if (sample.name != name || sample.labels != labels) continue;
      if (found) return std::nullopt;
      found = sample.value;
    }
  }
  return found;
}

}  // namespace vmhop

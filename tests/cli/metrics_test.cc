#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "cli/metrics_text.h"
#include "cli/vm_metrics.h"
#include "tests/cli/openmetrics.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

// One VM of each kind that the metrics tell apart.
std::vector<json> some_statuses() {
  json progress = {{"pages_total", 1000},    {"pages_resident", 600},  {"pages_faulted", 50},
                   {"pages_precached", 540}, {"pages_hole", 10},       {"bytes_read", 2'416'640},
                   {"faults", 61},           {"fault_p50_ns", 100'000}};
  progress["fault_latency"] = {{"sum_ns", 9'000'000},
                               {"buckets", {{81'919, 30}, {131'071, 20}, {163'839, 11}}}};
  return {{{"vm", "arrives"},
           {"state", "arriving"},
           {"role", "receive"},
           {"ram_mib", 1024},
           {"page_bytes", 4096},
           {"link", false},
           {"reconnects", 2},
           {"progress", progress}},
          {{"vm", "here"},
           {"state", "running"},
           {"role", "run"},
           {"ram_mib", 512},
           {"page_bytes", 4096},
           {"arrived", progress}},
          {{"vm", "leaves"},
           {"state", "leaving"},
           {"role", "run"},
           {"supervisor", false},
           {"ram_mib", 2048},
           {"page_bytes", 4096},
           {"link", true},
           {"progress", progress}},
          {{"vm", "waits"}, {"state", "waiting"}, {"role", "receive"}, {"ram_mib", 256}}};
}

std::vector<json> some_records() {
  return {{{"vm", "gone"},
           {"side", "source"},
           {"started_ns", 1'700'000'000'500'000'000},
           {"end", "drained"},
           {"blackout_ns", 7'120'000},
           {"last", {{"drained_ns", 2'500'000'000}}}},
          {{"vm", "here"},
           {"side", "destination"},
           {"started_ns", 1'700'000'000'000'000'000},
           {"end", ""}}};
}

std::string text_of_all(MetricsFormat format) {
  return vm_metrics(some_statuses(), some_records(), format);
}

std::vector<ReadFamily> read_all() {
  auto read = parse_openmetrics(text_of_all(MetricsFormat::kOpenMetrics));
  EXPECT_TRUE(read.ok()) << read.error().message();
  return read ? *read : std::vector<ReadFamily>();
}

TEST(Metrics, AreOpenMetricsByItsOwnRules) {
  auto families = read_all();
  EXPECT_GT(families.size(), 10U);
  for (const ReadFamily& family : families) {
    EXPECT_FALSE(family.help.empty()) << family.name;
    EXPECT_NE(family.type, "unknown") << family.name;
    for (const char* unit : {"bytes", "seconds"}) {
      bool ends_in_it = family.name.ends_with(unit);
      EXPECT_EQ(family.unit == unit, ends_in_it) << family.name;
    }
  }
}

TEST(Metrics, OfAHostWithoutVmsStillNameEveryFamily) {
  auto none = parse_openmetrics(vm_metrics({}, {}, MetricsFormat::kOpenMetrics));
  ASSERT_TRUE(none.ok()) << none.error().message();
  EXPECT_EQ(none->size(), read_all().size());
}

TEST(Metrics, SayHowEachVmIs) {
  auto families = read_all();
  auto of = [&](const char* name, const char* vm) {
    return value_of(families, name, {{"vm", vm}});
  };
  auto state = [&](const char* vm, const char* name) {
    return value_of(families, "vmhop_vm_state", {{"vm", vm}, {"state", name}});
  };
  EXPECT_EQ(state("arrives", "arriving"), 1);
  EXPECT_EQ(state("arrives", "running"), 0);
  EXPECT_EQ(of("vmhop_vm_missing_bytes", "arrives"), 400 * 4096);
  EXPECT_EQ(of("vmhop_vm_resident_bytes", "arrives"), (1024 << 20) - 400 * 4096);
  EXPECT_EQ(of("vmhop_link_up", "arrives"), 0);
  EXPECT_EQ(of("vmhop_reconnects_total", "arrives"), 2);
  EXPECT_EQ(of("vmhop_faults_total", "arrives"), 61);
  EXPECT_EQ(of("vmhop_received_bytes_total", "arrives"), 2'416'640);
  EXPECT_EQ(
      value_of(families, "vmhop_pages_received_total", {{"vm", "arrives"}, {"by", "precaching"}}),
      540);
  // Whole, but its counters do not go back.
  EXPECT_EQ(of("vmhop_vm_missing_bytes", "here"), 0);
  EXPECT_EQ(of("vmhop_vm_resident_bytes", "here"), 512 << 20);
  EXPECT_EQ(of("vmhop_faults_total", "here"), 61);
  EXPECT_EQ(of("vmhop_link_up", "here"), std::nullopt);
  // What the destination lacks is not what is missing here, nor are its faults this host's.
  EXPECT_EQ(of("vmhop_source_remaining_bytes", "leaves"), 400 * 4096);
  EXPECT_EQ(of("vmhop_vm_missing_bytes", "leaves"), std::nullopt);
  EXPECT_EQ(of("vmhop_faults_total", "leaves"), std::nullopt);
  EXPECT_EQ(of("vmhop_vm_supervised", "leaves"), 0);
  EXPECT_EQ(of("vmhop_vm_resident_bytes", "waits"), std::nullopt);
}

TEST(Metrics, LatencyIsAHistogramWhoseBoundsSplitNoBucket) {
  auto families = read_all();
  auto at_most = [&](const char* upper) {
    return value_of(families, "vmhop_fault_latency_seconds_bucket",
                    {{"vm", "arrives"}, {"le", upper}});
  };
  EXPECT_EQ(at_most("6.5535e-05"), 0);
  EXPECT_EQ(at_most("0.000131071"), 50);
  EXPECT_EQ(at_most("0.000262143"), 61);
  EXPECT_EQ(at_most("+Inf"), 61);
  EXPECT_EQ(value_of(families, "vmhop_fault_latency_seconds_sum", {{"vm", "arrives"}}), 0.009);
}

TEST(Metrics, TellOfTheLastRelocation) {
  auto families = read_all();
  LabelSet gone = {{"vm", "gone"}, {"side", "source"}};
  LabelSet here = {{"vm", "here"}, {"side", "destination"}};
  EXPECT_EQ(value_of(families, "vmhop_last_relocation_blackout_seconds", gone), 0.00712);
  EXPECT_EQ(value_of(families, "vmhop_last_relocation_drained_seconds", gone), 2.5);
  EXPECT_EQ(value_of(families, "vmhop_last_relocation_success", gone), 1);
  EXPECT_EQ(value_of(families, "vmhop_last_relocation_start_time_seconds", gone), 1'700'000'000.5);
  EXPECT_EQ(value_of(families, "vmhop_last_relocation_success", here), std::nullopt);
}

TEST(Metrics, InPrometheusFormatDescribeTheirSamples) {
  std::string text = text_of_all(MetricsFormat::kPrometheus);
  EXPECT_THAT(text, HasSubstr("# TYPE vmhop_faults_total counter\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE vmhop_build_info gauge\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE vmhop_fault_latency_seconds histogram\n"));
  EXPECT_THAT(text, Not(HasSubstr("# UNIT")));
  EXPECT_THAT(text, Not(HasSubstr("# EOF")));
  // The samples are the same.
  auto samples = [](const std::string& all) {
    std::string kept;
    std::istringstream lines(all);
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("#")) kept += line + "\n";
    }
    return kept;
  };
  EXPECT_EQ(samples(text), samples(text_of_all(MetricsFormat::kOpenMetrics)));
}

TEST(MetricsText, EscapesWhatLabelsHold) {
  MetricsText text(MetricsFormat::kOpenMetrics);
  text.begin({"a", MetricType::kGauge, "", "Of a \\ and\na line."});
  text.sample({{"vm", "x\"y\\z\nw"}}, uint64_t{1});
  auto read = parse_openmetrics(text.finish());
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(value_of(*read, "a", {{"vm", "x\"y\\z\nw"}}), 1);
}

class NotOpenMetrics : public testing::TestWithParam<const char*> {};

// The judge of the other tests has to be able to say no.
TEST_P(NotOpenMetrics, IsRefused) {
  EXPECT_FALSE(parse_openmetrics(GetParam()).ok()) << GetParam();
}

INSTANTIATE_TEST_SUITE_P(
    Metrics, NotOpenMetrics,
    testing::Values(
        "", "# TYPE a gauge\na 1\n", "# TYPE a gauge\na 1\n# EOF", "# EOF\n\n",
        "# TYPE a counter\na 1\n# EOF\n", "# TYPE a counter\na_total -1\n# EOF\n",
        "# TYPE a gauge\na 1\na 2\n# EOF\n", "# TYPE a gauge\na{b=\"1\",b=\"2\"} 1\n# EOF\n",
        "# TYPE a gauge\na{b=1} 1\n# EOF\n", "# TYPE a gauge\na{b=\"1} 1\n# EOF\n",
        "# TYPE a gauge\na  1\n# EOF\n", "# TYPE a gauge\na one\n# EOF\n",
        "# TYPE a gauge\n# UNIT a bytes\n# EOF\n", "# TYPE a gauges\n# EOF\n",
        "# TYPE a gauge\na 1\n# HELP a late\n# EOF\n", "b 1\n# EOF\n",
        "# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\n# EOF\n",
        "# TYPE a info\na_info 1\n# EOF\n", "# TYPE a info\na_info{b=\"c\"} 2\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"1.0\"} 1\na_count 1\na_sum 1\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"1.0\"} 2\na_bucket{le=\"+Inf\"} 1\na_count 1\n"
        "a_sum 1\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 2\na_sum 1\n# EOF\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 1\n# EOF\n"));

std::string file(const std::string& path) {
  std::ifstream in(std::string(VMHOP_SOURCES) + "/" + path);
  std::ostringstream text;
  text << in.rdbuf();
  EXPECT_FALSE(text.str().empty()) << path;
  return text.str();
}

std::set<std::string> names_in(const std::string& text) {
  std::set<std::string> names;
  std::regex name("vmhop_[a-z0-9_]+");
  for (std::sregex_iterator at(text.begin(), text.end(), name), end; at != end; ++at)
    names.insert(at->str());
  return names;
}

void collect_expressions(const json& part, std::string& all) {
  for (const auto& [key, value] : part.items()) {
    if (value.is_structured()) collect_expressions(value, all);
    if (value.is_string() && (key == "expr" || key == "query"))
      all += value.get<std::string>() + "\n";
  }
}

TEST(Metrics, EachIsDocumentedAndNothingElseIs) {
  std::string page = file("docs/metrics.md");
  std::set<std::string> printed;
  for (const ReadFamily& family : read_all()) {
    EXPECT_THAT(page, HasSubstr(fmt::format("\n| `{}` | {} |", family.name, family.type)));
    printed.insert(family.name);
    for (const std::string& name : family.sample_names())
      printed.insert(name);
  }
  for (const std::string& name : names_in(page))
    EXPECT_TRUE(printed.contains(name)) << "docs/metrics.md has " << name;
}

TEST(GrafanaDashboard, AsksForMetricsThatThereAre) {
  json dashboard = json::parse(file("examples/grafana/vmhop.json"), nullptr, false);
  ASSERT_TRUE(dashboard.is_object());
  std::string expressions;
  collect_expressions(dashboard, expressions);
  std::set<std::string> printed;
  for (const ReadFamily& family : read_all()) {
    for (const std::string& name : family.sample_names())
      printed.insert(name);
  }
  std::set<std::string> asked = names_in(expressions);
  EXPECT_GT(asked.size(), 10U);
  for (const std::string& name : asked)
    EXPECT_TRUE(printed.contains(name)) << name;
}

// What Grafana needs to show a panel at all.
TEST(GrafanaDashboard, HasPanelsThatCanBeDrawn) {
  json dashboard = json::parse(file("examples/grafana/vmhop.json"));
  std::set<int> ids;
  std::set<std::pair<int, int>> places;
  for (const json& panel : dashboard.at("panels")) {
    EXPECT_TRUE(ids.insert(panel.at("id").get<int>()).second) << panel.at("title");
    const json& at = panel.at("gridPos");
    EXPECT_LE(at.at("x").get<int>() + at.at("w").get<int>(), 24) << panel.at("title");
    EXPECT_TRUE(places.emplace(at.at("x").get<int>(), at.at("y").get<int>()).second)
        << panel.at("title");
    if (panel.at("type") == "row") continue;
    EXPECT_EQ(panel.at("datasource").at("uid"), "${datasource}") << panel.at("title");
    ASSERT_FALSE(panel.at("targets").empty()) << panel.at("title");
    for (const json& target : panel.at("targets"))
      EXPECT_FALSE(target.at("expr").get<std::string>().empty()) << panel.at("title");
  }
}

}  // namespace
}  // namespace vmhop

// The Grafana dashboard: each of its questions is put to a real Prometheus that has watched a
// relocation.
#include <algorithm>
#include <cmath>
#include <ctime>
#include <fstream>
#include <regex>
#include <set>
#include <thread>

#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto kPatience = 60s;
constexpr const char* kPrometheus = "http://127.0.0.1:9090";

struct Question {
  std::string panel;
  std::string expression;        // with Grafana's variables filled in, as for "All"
  std::set<std::string> labels;  // that its legend names
  json answer = json::array();   // its series
};

std::string with_variables(std::string text) {
  // The longest first. A rate is taken of four scrapes.
  for (const auto& [name, value] : {std::pair("$__rate_interval", "4s"),
                                    std::pair("$instance", ".*"), std::pair("$vm", ".*")}) {
    for (size_t at = text.find(name); at != std::string::npos; at = text.find(name))
      text.replace(at, std::string(name).size(), value);
  }
  EXPECT_EQ(text.find('$'), std::string::npos) << "a variable of Grafana in " << text;
  return text;
}

std::set<std::string> labels_in(const std::string& legend) {
  std::set<std::string> labels;
  std::regex label(R"(\{\{(\w+)\}\})");
  for (std::sregex_iterator at(legend.begin(), legend.end(), label), end; at != end; ++at)
    labels.insert(at->str(1));
  return labels;
}

std::vector<Question> questions_of(const json& dashboard) {
  std::vector<Question> questions;
  for (const json& panel : dashboard.at("panels")) {
    for (const json& target : panel.value("targets", json::array())) {
      questions.push_back({panel.at("title"), with_variables(target.at("expr")),
                           labels_in(target.value("legendFormat", ""))});
    }
  }
  // What there is to choose from, label_values(SERIES, LABEL), which Prometheus has no function
  // for.
  std::regex values(R"(label_values\((.*), (\w+)\))");
  for (const json& variable : dashboard.at("templating").at("list")) {
    std::smatch found;
    std::string definition = variable.value("definition", "");
    if (!std::regex_match(definition, found, values)) continue;
    questions.push_back(
        {variable.at("label"),
         with_variables(fmt::format("count by ({}) ({})", found.str(2), found.str(1))),
         {found.str(2)}});
  }
  return questions;
}

bool is_number(const json& value) {
  return std::isfinite(std::stod(value.at(1).get<std::string>()));
}

class Dashboard : public HopTest {
 protected:
  void SetUp() override {
    HopTest::SetUp();
    if (HasFatalFailure()) return;
    ASSERT_VALUE(std::string text, read_file(VMHOP_DASHBOARD, 1 << 20));
    questions_ = questions_of(json::parse(text));
    ASSERT_GT(questions_.size(), 20U);
    began_ = std::time(nullptr);
    ASSERT_OK(start_prometheus());
  }

  // All on one loopback: what they look at is on files, and the hosts' cables are slow at times.
  Status start_prometheus() {
    VMHOP_ASSIGN(at_source_, serve_metrics(*source_, "127.0.0.1:9471"));
    VMHOP_ASSIGN(at_destination_, serve_metrics(*destination_, "127.0.0.1:9472"));
    std::string config = network_->directory() + "/prometheus.yml";
    std::ofstream(config) << "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
                             "scrape_configs:\n"
                             "- job_name: vmhop\n"
                             "  static_configs: [targets: ['127.0.0.1:9471', '127.0.0.1:9472']]\n";
    VMHOP_ASSIGN(prometheus_,
                 start_at_client({"prometheus", "--config.file=" + config,
                                  "--storage.tsdb.path=" + network_->directory() + "/prometheus",
                                  "--web.listen-address=127.0.0.1:9090"},
                                 "prometheus"));
    return prometheus_->wait_for_err(
        [](auto text) { return count_of(text, "Server is ready") > 0; }, within(kPatience));
  }

  Result<Process> serve_metrics(const VmhopHost& host, const std::string& address) const {
    return start_at_client({lab_vmhop(), "metrics", "--listen", address}, "metrics-" + host.name(),
                           {{"VMHOP_RUNTIME_DIR", host.runtime_directory()}});
  }

  Result<Process> start_at_client(
      std::vector<std::string> argv, const std::string& called,
      std::vector<std::pair<std::string, std::string>> environment = {}) const {
    ProcessSpec spec;
    spec.argv = std::move(argv);
    spec.where = &network_->client();
    spec.environment = std::move(environment);
    spec.output = network_->directory() + "/" + called;
    return Process::start(spec);
  }

  // Its series over the time since the beginning. What Prometheus cannot make sense of is an error.
  Result<json> ask(const std::string& expression) const {
    VMHOP_ASSIGN(std::string answer, run_tool(network_->directory(),
                                              {"promtool", "query", "--format=json", "range",
                                               fmt::format("--start={}", began_),
                                               fmt::format("--end={}", std::time(nullptr)),
                                               "--step=1s", kPrometheus, expression},
                                              &network_->client()));
    json series = json::parse(answer, nullptr, false);
    if (!series.is_array()) return Error("promtool: " + answer);
    return series;
  }

  // Asks until each of those questions has been answered with a number.
  void all_are_answered(const std::function<bool(const Question&)>& concerned) {
    auto deadline = within(kPatience);
    for (Question& question : questions_) {
      if (!concerned(question)) continue;
      for (;;) {
        ASSERT_VALUE(question.answer, ask(question.expression));
        if (has_number(question.answer)) break;
        ASSERT_GT(milliseconds_until(deadline), 0)
            << question.panel << ": " << question.expression << " has no answer";
        std::this_thread::sleep_for(100ms);
      }
    }
  }

  static bool has_number(const json& series) {
    return std::any_of(series.begin(), series.end(), [](const json& one) {
      const json& values = one.at("values");
      return std::any_of(values.begin(), values.end(), is_number);
    });
  }

  // What the panel shows at the end, of its only series.
  double last_of(const std::string& panel) const {
    for (const Question& question : questions_) {
      if (question.panel != panel) continue;
      EXPECT_EQ(question.answer.size(), 1U) << question.answer;
      return std::stod(question.answer.at(0).at("values").back().at(1).get<std::string>());
    }
    ADD_FAILURE() << "the dashboard has no panel " << panel;
    return -1;
  }

  std::vector<Question> questions_;
  std::time_t began_ = 0;
  std::optional<Process> at_source_;
  std::optional<Process> at_destination_;
  std::optional<Process> prometheus_;
};

TEST_F(Dashboard, ShowsARelocation) {
  auto is_of_its_end = [](const Question& question) {
    return question.expression.find("vmhop_last_relocation") != std::string::npos;
  };
  ASSERT_OK(relocate_slowly());
  ASSERT_NO_FATAL_FAILURE(all_are_answered(std::not_fn(is_of_its_end)));
  ASSERT_OK(speed_up());
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(kPatience)));
  ASSERT_TRUE(relocated.status.clean()) << relocated.describe();
  ASSERT_NO_FATAL_FAILURE(all_are_answered([](const Question&) { return true; }));

  for (const Question& question : questions_) {
    for (const json& series : question.answer) {
      for (const std::string& label : question.labels) {
        EXPECT_TRUE(series.at("metric").contains(label))
            << question.panel << " names its lines by " << label << ": " << series.at("metric");
      }
    }
  }
  EXPECT_NEAR(last_of("Blackout of the last relocation") * 1000,
              relocated.json().at("blackout_ms").get<double>(), 0.001);
  EXPECT_EQ(last_of("Need somebody"), 0);
  EXPECT_EQ(last_of("Failed relocations, a day"), 0);
}

}  // namespace
}  // namespace vmhop::lab

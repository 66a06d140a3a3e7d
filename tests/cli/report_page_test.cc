#include "cli/report_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "cli/report_chart.h"
#include "tests/cli/browser.h"
#include "tests/cli/temporary_directory.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr uint64_t kStart = 1'700'000'000'000'000'000;
constexpr uint64_t kMs = 1'000'000;

// As it is read from its file: numbers are unsigned there.
json as_read(const json& record) {
  return json::parse(record.dump());
}

json at_source(const std::string& vm = "web") {
  json record = {{"version", 1},
                 {"vm", vm},
                 {"side", "source"},
                 {"peer", "10.0.0.2:4000"},
                 {"front", "preload"},
                 {"transport", "tcp"},
                 {"ram_mib", 512},
                 {"started_ns", kStart},
                 {"ended_ns", kStart + 2111 * kMs},
                 {"end", "drained"},
                 {"blackout_ns", 8 * kMs}};
  record["phases"] = {{{"name", "preparing"}, {"at_ns", 0}},
                      {{"name", "stopping"}, {"at_ns", 100 * kMs}},
                      {{"name", "blackout"}, {"at_ns", 103 * kMs}},
                      {{"name", "draining"}, {"at_ns", 111 * kMs}}};
  record["marks"] = {{{"at_ns", 109 * kMs}, {"text", "committed"}}};
  record["samples"] = json::array();
  for (uint64_t i = 0; i <= 20; ++i)
    record["samples"].push_back(
        {110 + 100 * i, 50 * i, 1000, 204'800 * i, 10 * i, 100'000, 900'000});
  record["last"] = {
      {"pages_total", 1000},     {"pages_resident", 1000},   {"faults", 200},
      {"bytes_read", 4'096'000}, {"drained_ns", 2000 * kMs}, {"fault_p50_ns", 100'000}};
  return as_read(record);
}

json at_destination() {
  json record = at_source();
  record["side"] = "destination";
  record["phases"] = {{{"name", "preparing"}, {"at_ns", 0}},
                      {{"name", "switching"}, {"at_ns", 103 * kMs}},
                      {{"name", "arriving"}, {"at_ns", 111 * kMs}}};
  record["last"]["fault_latency"] = {{"sum_ns", 1},
                                     {"buckets", {{81'919, 30}, {131'071, 20}, {9'999'999, 1}}}};
  return as_read(record);
}

// As a browser shows it.
json seen(const json& record, bool dark = false) {
  TemporaryDirectory directory;
  std::string file = directory.path() + "/report.html";
  std::ofstream(file) << report_page(record);
  auto found = look_at_page(file, dark);
  EXPECT_TRUE(found.ok()) << found.error().message();
  return found ? *found : json::object();
}

std::vector<std::string> phases_in(const json& found, const std::string& chart) {
  std::vector<std::string> names;
  for (const json& phase : found.at("phases")) {
    if (phase.at("chart") != chart) continue;
    names.push_back(phase.at("name"));
    EXPECT_TRUE(phase.at("seen").get<bool>()) << phase;
    EXPECT_GT(phase.at("width").get<double>(), 1) << phase;
    EXPECT_GT(phase.at("height").get<double>(), 10) << phase;
  }
  return names;
}

TEST(ReportPage, OfTheSourceIsDrawnByABrowserWithoutAComplaint) {
  json found = seen(at_source());
  EXPECT_THAT(found.at("complaints"), IsEmpty()) << found.at("complaints");
  EXPECT_THAT(found.at("requests"), IsEmpty()) << found.at("requests");
  EXPECT_EQ(found.at("title"), "Relocation of web");
  EXPECT_THAT(phases_in(found, "timeline"),
              ElementsAre("preparing", "stopping", "blackout", "draining"));
  EXPECT_THAT(phases_in(found, "switch"),
              ElementsAre("preparing", "stopping", "blackout", "draining"));
  EXPECT_EQ(found.at("paths"), 3) << "residency, rate, faults";
  EXPECT_FALSE(found.at("overflow").get<bool>());
  std::string text = found.at("text");
  EXPECT_THAT(text, HasSubstr("web runs at 10.0.0.2:4000, with all of its memory."));
  EXPECT_THAT(text, HasSubstr("8.0 ms"));
}

TEST(ReportPage, OfTheDestinationHasTheHistogramAndIsDarkWhereTheBrowserIs) {
  json found = seen(at_destination(), true);
  EXPECT_THAT(found.at("complaints"), IsEmpty()) << found.at("complaints");
  EXPECT_THAT(phases_in(found, "switch"), ElementsAre("preparing", "switching", "arriving"));
  EXPECT_EQ(found.at("buckets"), 3);
  EXPECT_TRUE(found.at("dark").get<bool>());
  EXPECT_GT(found.at("contrast").get<double>(), 7) << "as easy to read as WCAG's AAA asks for";
  EXPECT_FALSE(seen(at_destination()).at("dark").get<bool>());
}

// Names of VMs are checked elsewhere; messages and peers come from the other host.
TEST(ReportPage, TakesNothingOfItsRecordForMarkup) {
  const std::string kHostile = "<script>console.error('x')</script>\"'><img src=x onerror=y>&amp;";
  json record = at_destination();
  for (const char* key : {"vm", "peer", "message", "transport", "front"})
    record[key] = kHostile;
  record["end"] = "ended";
  record["marks"][0]["text"] = kHostile;
  record["phases"][1]["name"] = kHostile;
  json found = seen(record);
  EXPECT_THAT(found.at("complaints"), IsEmpty()) << found.at("complaints");
  for (const json& element : found.at("elements")) {
    EXPECT_NE(element, "script");
    EXPECT_NE(element, "img");
  }
  EXPECT_THAT(found.at("text").get<std::string>(), HasSubstr(kHostile));
  EXPECT_EQ(found.at("title"), "Relocation of " + kHostile);
}

TEST(ReportPage, IsWrittenWhateverIsMissing) {
  EXPECT_THAT(report_page(json::object()), HasSubstr("</html>"));
  EXPECT_THAT(
      report_page({{"side", "source"}, {"phases", 7}, {"samples", {1, {2}, {-1, 2, 3, 4, 5}}}}),
      HasSubstr("</html>"));
  json record = at_source();
  record["end"] = "";
  record.erase("ended_ns");
  EXPECT_THAT(report_page(record), HasSubstr("Under way"));
  record["samples"] = json::array();
  EXPECT_THAT(report_page(record), Not(HasSubstr("id=\"resident\"")));
}

TEST(ReportPage, SaysWhyAVmStayed) {
  json record = at_source();
  record["end"] = "stays_here";
  record["message"] = "nobody listens";
  EXPECT_THAT(report_page(record),
              HasSubstr("web was not relocated to 10.0.0.2:4000: nobody listens"));
}

TEST(ReportPage, LoadsNothingFromElsewhere) {
  std::string page = report_page(at_destination());
  for (const char* loads : {"http:", "https:", "src=", "@import", "url(", "<script"})
    EXPECT_THAT(page, Not(HasSubstr(loads)));
}

TEST(HtmlEscape, LeavesNoMarkup) {
  EXPECT_EQ(html_escape("<a href='x'>\"&\""), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;");
}

}  // namespace
}  // namespace vmhop

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/exit_codes.h"
#include "cli/format.h"
#include "cli/relocation_report.h"
#include "cli/vm_status.h"
#include "cli/vm_view.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(Format, ReadsWell) {
  EXPECT_EQ(format_count(1234567), "1,234,567");
  EXPECT_EQ(format_count(12), "12");
  EXPECT_EQ(format_duration(7'120'000), "7.1 ms");
  EXPECT_EQ(format_duration(210'000), "210 µs");
  EXPECT_EQ(format_bytes(812ULL << 20), "812 MiB");
}

TEST(RelocationVerdict, IsZeroOnlyWhenDrained) {
  auto code = [](const char* end, const char* kind, bool interrupted) {
    return judge_relocation({{"event", "result"}, {"end", end}, {"kind", kind}}, "vm", "there:1",
                            interrupted)
        .exit_code;
  };
  EXPECT_EQ(code("drained", "failed", false), kExitDone);
  EXPECT_EQ(code("stays_here", "refused", false), kExitRefused);
  EXPECT_EQ(code("stays_here", "timed_out", false), kExitFailed);
  EXPECT_EQ(code("stays_here", "aborted", true), kExitInterrupted);
  EXPECT_EQ(code("vm_gone", "failed", false), kExitFailed);
  EXPECT_EQ(code("ended", "failed", false), kExitEndedBeforeDrained);
  EXPECT_EQ(code("dropped", "failed", false), kExitUnresolved);
  EXPECT_EQ(code("left", "failed", false), kExitDetached);
}

TEST(RelocationReport, HasTheFieldsThatScriptsRead) {
  json report = report_json({{"blackout_ns", 7'120'400},
                             {"drained_ns", 2'000'000'000},
                             {"pages_faulted", 5},
                             {"fault_p50_ns", 210'000},
                             {"front", "object"},
                             {"bytes_read", 4096}},
                            1024, 0);
  EXPECT_DOUBLE_EQ(report.at("blackout_ms"), 7.12);
  EXPECT_DOUBLE_EQ(report.at("drained_ms"), 2000);
  EXPECT_EQ(report.at("ram_mib"), 1024);
  EXPECT_EQ(report.at("pages_faulted"), 5);
  EXPECT_EQ(report.at("pages_hole"), 0);
  EXPECT_DOUBLE_EQ(report.at("fault_p50_us"), 210);
  EXPECT_EQ(report.at("bytes"), 4096);
  EXPECT_EQ(report.at("transport"), "tcp");
  EXPECT_EQ(report.at("front"), "object");
}

TEST(VmView, EstimatesTheRemainingTimeFromTheLatestRate) {
  VmView view("vm", "arriving");
  auto now = VmView::Clock::now();
  EXPECT_FALSE(view.time_to_drain());
  view.on_event({{"event", "progress"}, {"pages_total", 1000}, {"pages_resident", 100}}, now);
  EXPECT_FALSE(view.time_to_drain());
  view.on_event({{"event", "progress"}, {"pages_total", 1000}, {"pages_resident", 400}},
                now + std::chrono::seconds(1));
  EXPECT_EQ(view.time_to_drain(), std::chrono::milliseconds(2000));
  EXPECT_EQ(view.to_json().at("remaining_ms"), 2000);
}

TEST(VmView, FollowsARelocation) {
  VmView view("vm", "running");
  auto now = VmView::Clock::now();
  view.on_event({{"event", "phase"}, {"phase", "committed"}}, now);
  EXPECT_EQ(view.state(), "leaving");
  view.on_event({{"event", "running"}, {"blackout_ns", 5}}, now);
  view.on_event({{"event", "unresolved"}, {"message", "gone"}}, now);
  EXPECT_EQ(view.state(), "unresolved");
  EXPECT_EQ(view.to_json().at("message"), "gone");
  EXPECT_EQ(view.to_json().at("blackout_ns"), 5);
  view.forget_relocation();
  EXPECT_FALSE(view.to_json().contains("message"));
}

TEST(VmView, ShowsTheLastPageOfAVmThatIsDrained) {
  VmView view("vm", "arriving");
  auto now = VmView::Clock::now();
  view.on_event({{"event", "progress"}, {"pages_total", 1000}, {"pages_resident", 999}}, now);
  view.on_event(
      {{"event", "drained"}, {"report", {{"pages_total", 1000}, {"pages_resident", 1000}}}}, now);
  EXPECT_THAT(status_details(view.to_json()), HasSubstr("100.0 % (1,000 of 1,000 pages)"));
}

TEST(VmStatus, ShowsATableAndDetails) {
  json status = {
      {"vm", "web"},
      {"state", "leaving"},
      {"supervisor", false},
      {"ram_mib", 1024},
      {"peer", "there:4000"},
      {"progress", {{"pages_total", 200}, {"pages_resident", 50}, {"fault_p50_ns", 210'000}}}};
  std::string table = status_table({status});
  EXPECT_THAT(table, HasSubstr("leaving*"));
  EXPECT_THAT(table, HasSubstr("25.0 %"));
  EXPECT_THAT(table, HasSubstr("210 µs"));
  std::string details = status_details(status);
  EXPECT_THAT(details, HasSubstr("there:4000"));
  EXPECT_THAT(details, HasSubstr("50 of 200 pages"));
}

}  // namespace
}  // namespace vmhop

#include "cli/watch_screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

namespace vmhop {
namespace {

using nlohmann::json;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

json arriving(uint64_t resident, uint64_t faults) {
  json progress = {{"pages_total", 1000},
                   {"pages_resident", resident},
                   {"faults", faults},
                   {"fault_p50_ns", 210'000},
                   {"bytes_read", resident * 4096}};
  progress["fault_latency"] = {{"buckets", {{131'071, 1}, {163'839, 8}, {1'048'575, 2}}}};
  json status = {{"vm", "web"},        {"state", "arriving"},      {"ram_mib", 4},
                 {"page_bytes", 4096}, {"bytes_per_second", 4096}, {"remaining_ms", 3100},
                 {"peer", "there:1"},  {"progress", progress}};
  return json::parse(status.dump());  // as it comes from a supervisor: numbers are unsigned
}

size_t lines_in(const std::string& text) {
  return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
}

TEST(Bar, IsAsLongAsItsShare) {
  EXPECT_EQ(bar(0, 4), "····");
  EXPECT_EQ(bar(0.5, 4), "██··");
  EXPECT_EQ(bar(0.625, 4), "██▌·");
  EXPECT_EQ(bar(1, 4), "████");
  EXPECT_EQ(bar(7, 4), "████");
  EXPECT_EQ(bar(-1, 2), "··");
}

TEST(Sparkline, ShowsTheSmallestThatIsNotNothing) {
  EXPECT_EQ(sparkline({0, 1, 500, 1000}), " ▁▄█");
  EXPECT_EQ(sparkline({0, 0}), "  ");
}

TEST(CutTo, CountsCharactersAndNotBytes) {
  EXPECT_EQ(cut_to("█µab", 3), "█µa");
  EXPECT_EQ(cut_to("ab", 5), "ab");
}

TEST(WatchScreen, HasBarsRatesAndLatencies) {
  WatchScreen screen;
  auto now = WatchScreen::Clock::now();
  screen.take({arriving(100, 10)}, now);
  screen.take({arriving(500, 40)}, now + seconds(1));
  std::string text = screen.draw({80, 24});
  EXPECT_THAT(text, HasSubstr("web              arriving  there:1, 4 MiB\n"));
  EXPECT_THAT(text, HasSubstr(bar(0.5, 28) + "  50.0 %, 2 MiB to go, 3.10 s"));
  EXPECT_THAT(text, HasSubstr("40, 30/s  p50 210 µs"));
  EXPECT_THAT(text, HasSubstr("4 KiB/s"));
  EXPECT_THAT(text, HasSubstr("▁█ ▂"));  // 1 and 8 of one power of two and the next, then 2
}

TEST(WatchScreen, ShowsTheBlackoutAndALinkThatIsDown) {
  json status = arriving(100, 1);
  status["blackout_ns"] = 7'100'000;
  status["link"] = false;
  status["message"] = "nobody answers";
  WatchScreen screen;
  screen.take({status}, WatchScreen::Clock::now());
  std::string text = screen.draw({100, 24});
  EXPECT_THAT(text, HasSubstr("LINK DOWN"));
  EXPECT_THAT(text, HasSubstr("blackout  7.1 ms"));
  EXPECT_THAT(text, HasSubstr("nobody answers"));
}

TEST(WatchScreen, FitsAnyWindow) {
  std::vector<json> many;
  for (int i = 0; i < 30; ++i) {
    many.push_back(arriving(static_cast<uint64_t>(i), 1));
    many.back()["vm"] = fmt::format("vm{}", i);
  }
  WatchScreen screen;
  screen.take(many, WatchScreen::Clock::now());
  for (unsigned columns : {1U, 10U, 40U, 79U, 250U}) {
    for (unsigned rows : {1U, 2U, 10U, 31U, 200U}) {
      std::string text = screen.draw({columns, rows});
      EXPECT_LE(lines_in(text), std::max(rows - 1, 1U)) << columns << "x" << rows;
      std::istringstream lines(text);
      for (std::string line; std::getline(lines, line);)
        EXPECT_EQ(cut_to(line, columns), line) << columns << "x" << rows;
    }
  }
  EXPECT_THAT(screen.draw({80, 10}), HasSubstr("... and 22 more"));
  // Where there is room for a line each, nobody is left out.
  EXPECT_THAT(screen.draw({80, 31}), HasSubstr("vm29"));
  EXPECT_THAT(screen.draw({80, 31}), Not(HasSubstr("more")));
}

TEST(WatchScreen, SaysWhenThereIsNothing) {
  WatchScreen screen;
  screen.take({}, WatchScreen::Clock::now());
  EXPECT_EQ(screen.draw({80, 24}), "No VM runs here.\n");
}

}  // namespace
}  // namespace vmhop

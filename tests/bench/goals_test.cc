// What a run says about each goal.
#include "bench/goals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vmhop::bench {
namespace {

using testing::Contains;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

Comparison of_row(int row, double ours, std::optional<double> theirs) {
  return {row, "figure", "writer", "unlimited", 1024, ours, theirs, {}};
}

// What missing_goals() names, as if it had been measured.
std::vector<Comparison> everything() {
  std::vector<Comparison> all;
  auto add = [&all](int row, const char* workload, const char* link, uint64_t ram_mib) {
    all.push_back({row, "figure", workload, link, ram_mib, 1, 1, {}});
  };
  for (const char* workload : {"web", "writer", "idle"}) {
    add(1, workload, "unlimited", 1024);
    add(1, workload, "unlimited", 8192);
    add(13, workload, "unlimited", 1024);
  }
  for (const char* workload : {"web", "writer"}) {
    for (int row : {8, 10, 12})
      add(row, workload, "unlimited", 1024);
    for (int row : {9, 10, 12})
      add(row, workload, "1gbit", 1024);
  }
  add(1, "cache", "unlimited", 1024);
  add(10, "cache", "unlimited", 1024);
  add(10, "cache", "1gbit", 1024);
  for (int row : {3, 4}) {
    add(row, "fault", "loopback", 0);
    add(row, "fault", "rxe", 0);
  }
  add(2, "idle", "unlimited", 8192);
  add(5, "paused", "1gbit", 0);
  add(5, "paused", "5gbit", 0);
  add(6, "paused", "unlimited", 0);
  add(7, "bulk read", "rxe", 0);
  add(11, "writer", "1gbit", 1024);
  return all;
}

TEST(Goals, BlackoutIsMetUpToTheirs) {
  EXPECT_TRUE(judge(of_row(1, 8, 8)).met);
  EXPECT_FALSE(judge(of_row(1, 8.1, 8)).met);
}

TEST(Goals, ThroughputIsMetFromItsShareUpwards) {
  EXPECT_TRUE(judge(of_row(5, 95, 100)).met);
  EXPECT_TRUE(judge(of_row(5, 200, 100)).met);
  EXPECT_FALSE(judge(of_row(5, 94, 100)).met);
  EXPECT_TRUE(judge(of_row(6, 60, 100)).met);
  EXPECT_FALSE(judge(of_row(6, 59, 100)).met);
  EXPECT_FALSE(judge(of_row(7, 94, 100)).met);
}

TEST(Goals, RatioIsOursToTheirs) {
  Verdict verdict = judge(of_row(8, 3, 4));
  EXPECT_DOUBLE_EQ(verdict.ratio.value(), 0.75);
  EXPECT_DOUBLE_EQ(verdict.goal, 0.5);
}

TEST(Goals, NothingLostIsNoDivisor) {
  EXPECT_FALSE(judge(of_row(10, 0.2, 0)).ratio);
  EXPECT_FALSE(judge(of_row(10, 0.2, 0)).met);
  EXPECT_TRUE(judge(of_row(10, 0, 0)).met);
}

TEST(Goals, MemoryMayGrowWithRam) {
  Comparison memory = of_row(13, 31, std::nullopt);
  EXPECT_FALSE(judge(memory).met);
  memory.ram_mib = 8192;
  EXPECT_TRUE(judge(memory).met);
  EXPECT_DOUBLE_EQ(judge(memory).goal, 24 + 8.192);
}

TEST(Goals, PageTablesAreShownAndNotJudged) {
  Comparison memory = of_row(13, 3, std::nullopt);
  memory.page_tables_mib = 4000;
  auto line = goal_line(memory);
  EXPECT_EQ(line["page_tables_mib"], 4000);
  EXPECT_EQ(line["met"], true);
}

TEST(Goals, LineHasWhatItsReadersLookFor) {
  auto line = goal_line(of_row(1, 4, 8));
  EXPECT_EQ(line, (nlohmann::json{{"row", 1},
                                  {"figure", "figure"},
                                  {"workload", "writer"},
                                  {"link", "unlimited"},
                                  {"ram_mib", 1024},
                                  {"ours", 4.0},
                                  {"theirs", 8.0},
                                  {"ratio", 0.5},
                                  {"goal", 1.0},
                                  {"met", true}}));
}

TEST(Goals, NoneIsMissingOfEverything) {
  EXPECT_THAT(missing_goals(everything()), IsEmpty());
}

TEST(Goals, EachIsMissedWhereItIsNotThere) {
  for (size_t i = 0; i < everything().size(); ++i) {
    auto all = everything();
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_EQ(missing_goals(all).size(), 1) << "without number " << i;
  }
}

TEST(Goals, BlackoutOfAnotherSizeIsNotTheOneThatIsMissing) {
  auto missing = missing_goals({of_row(1, 1, 1)});
  EXPECT_THAT(missing, Contains("row 1: writer, link unlimited, 8192 MiB of RAM"));
  EXPECT_THAT(missing, Not(Contains("row 1: writer, link unlimited, 1024 MiB of RAM")));
}

TEST(Goals, NoRowIsMissedByNobody) {
  auto missing = missing_goals({});
  for (int row = 1; row <= 13; ++row)
    EXPECT_THAT(missing, Contains(StartsWith("row " + std::to_string(row) + ":")));
}

}  // namespace
}  // namespace vmhop::bench

// From what was measured to what gnuplot is given.
#include "bench/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/latency_picture.h"
#include "bench/series.h"
#include "bench/throughput_picture.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;
using lab::Clock;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

const Clock::time_point kZero{1h};

double seconds_after_zero(Clock::time_point at) {
  return lab::seconds_between(kZero, at);
}

TEST(Series, HasAnEdgeAtZeroAndWholeStepsOnly) {
  auto begin = [](auto from, auto /*to*/) { return seconds_after_zero(from); };
  Series series = in_steps(begin, {kZero, kZero - 250ms, kZero + 290ms}, 100ms);
  EXPECT_EQ(series.first, -2);
  ASSERT_EQ(series.values.size(), 4U);
  EXPECT_NEAR(series.values[0], -0.2, 1e-9);
  EXPECT_NEAR(series.values[2], 0, 1e-9);
  EXPECT_NEAR(series.middle_s(0), -0.15, 1e-9);
}

TEST(Series, MayBeginAfterZero) {
  auto begin = [](auto from, auto /*to*/) { return seconds_after_zero(from); };
  Series series = in_steps(begin, {kZero, kZero + 130ms, kZero + 400ms}, 100ms);
  EXPECT_EQ(series.first, 2);
  ASSERT_EQ(series.values.size(), 2U);
  EXPECT_NEAR(series.values[0], 0.2, 1e-9);
}

Figures round_that_lost(double lost_s) {
  Figures round;
  round.blackout_ms = 10;
  round.lost_s = lost_s;
  round.recovered_s = 5;
  round.throughput = {0.1, -1, {lost_s, 7}};
  return round;
}

TEST(MiddleRound, IsTheOneWithTheMedianOfLostWork) {
  Cell cell{"writer", "1gbit", "vmhop", 1024, {}};
  for (double lost : {3.0, 1.0, 2.0})
    cell.rounds.push_back(round_that_lost(lost));
  ASSERT_NE(middle_round(cell), nullptr);
  EXPECT_EQ(middle_round(cell)->lost_s, 2.0);
}

TEST(MiddleRound, IsTheBetterOfTwoInTheMiddle) {
  Cell cell{"writer", "1gbit", "vmhop", 1024, {round_that_lost(4), round_that_lost(3)}};
  EXPECT_EQ(middle_round(cell)->lost_s, 3.0);
}

TEST(MiddleRound, IsNoneWhereNothingIsToBeLost) {
  Cell idle{"idle", "1gbit", "vmhop", 1024, {Figures{}}};
  EXPECT_EQ(middle_round(idle), nullptr);
  EXPECT_FALSE(throughput_picture({idle}).has_value());
}

TEST(ThroughputPicture, HasACurveForEachModeThatWasMeasured) {
  Figures given_up = round_that_lost(1);
  given_up.blackout_ms.reset();
  given_up.recovered_s.reset();
  auto picture = throughput_picture({{"writer", "1gbit", "vmhop", 1024, {round_that_lost(2)}},
                                     {"writer", "1gbit", "postcopy", 1024, {}},
                                     {"writer", "1gbit", "precopy", 1024, {given_up}}});
  ASSERT_TRUE(picture.has_value());
  EXPECT_EQ(picture->name, "throughput-writer-1gbit");
  ASSERT_EQ(picture->curves.size(), 2U);
  EXPECT_EQ(picture->curves[0].title, "vmhop");
  EXPECT_THAT(picture->curves[0].points, ElementsAre(Pair(-0.05, 2), Pair(0.05, 7)));
  EXPECT_EQ(picture->curves[1].title, "precopy (given up)");
  EXPECT_EQ(picture->x.most, 6);
}

TEST(LatencyPicture, SaysHowManyFaultsTookLonger) {
  Picture picture = latency_picture({{"pager", {40, 10, 30, 20}}, {"none", {}}});
  ASSERT_EQ(picture.curves.size(), 2U);
  EXPECT_THAT(picture.curves[0].points, ElementsAre(Pair(10, 0.75), Pair(20, 0.5), Pair(30, 0.25)));
  EXPECT_TRUE(picture.curves[1].points.empty());
}

Picture two_curves() {
  return {"name",
          "it's a title",
          {"seconds", -2, 3.5},
          {"MiB/s", 0, std::nullopt, true},
          0,
          {{"one", "lines", {{1, 2}, {3, 4.5}}}, {"two", "points", {{5, 6}}}}};
}

TEST(Plot, HasABlockForEachCurveInItsTable) {
  EXPECT_EQ(table_of(two_curves()),
            "# one\n# seconds\tMiB/s\n1\t2\n3\t4.5\n"
            "\n\n# two\n# seconds\tMiB/s\n5\t6\n");
}

TEST(Plot, HasAScriptThatDrawsTheTableTwice) {
  std::string script = script_of(two_curves());
  EXPECT_THAT(script, HasSubstr("set title 'it''s a title'"));
  EXPECT_THAT(script, HasSubstr("set xrange [-2:3.5]"));
  EXPECT_THAT(script, HasSubstr("set yrange [0:*]\nset logscale y"));
  EXPECT_THAT(script, HasSubstr("set arrow from 0, graph 0 to 0, graph 1"));
  EXPECT_THAT(script, HasSubstr("set output 'name.svg'\nplot 'name.tsv' index 1"));
  EXPECT_THAT(script, HasSubstr("set output 'name.png'\nplot 'name.tsv' index 1"));
  EXPECT_THAT(script, HasSubstr("'name.tsv' index 0 using 1:2 with lines title 'one'"));
}

}  // namespace
}  // namespace vmhop::bench

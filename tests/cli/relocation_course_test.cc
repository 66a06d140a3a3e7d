#include "cli/relocation_course.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/course_recorder.h"
#include "cli/json_access.h"
#include "cli/relocation_records.h"
#include "tests/cli/temporary_directory.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::ElementsAre;

constexpr uint64_t kStart = 1'700'000'000'000'000'000;
constexpr uint64_t kMs = 1'000'000;

std::vector<std::pair<std::string, uint64_t>> phases_of(const RelocationCourse& course) {
  std::vector<std::pair<std::string, uint64_t>> phases;
  for (const json& phase : course.record().at("phases"))
    phases.emplace_back(phase.at("name"), phase.at("at_ns").get<uint64_t>() / kMs);
  return phases;
}

RelocationCourse at_source() {
  return {"web", CourseSide::kSource, "there:1", {{"ram_mib", 512}, {"front", "preload"}}, kStart};
}

TEST(RelocationCourse, AtTheSourceHasTheBlackoutBetweenItsPhases) {
  RelocationCourse course = at_source();
  course.on_event({{"event", "phase"}, {"phase", "preparing"}}, kStart + 1);
  course.on_event({{"event", "transport"}, {"transport", "rdma"}, {"detail", "by a to b"}}, kStart);
  course.on_event({{"event", "phase"}, {"phase", "switching"}}, kStart + 100 * kMs);
  // Told of late: what counts is QEMU's own stamp.
  course.on_event({{"event", "phase"}, {"phase", "committed"}, {"stopped_ns", kStart + 103 * kMs}},
                  kStart + 109 * kMs);
  course.on_event({{"event", "running"}, {"blackout_ns", 8 * kMs}}, kStart + 115 * kMs);
  course.end("drained", "", {{"drained_ns", 900 * kMs}, {"transport", "rdma"}},
             kStart + 1011 * kMs);
  EXPECT_THAT(phases_of(course),
              ElementsAre(std::pair("preparing", 0), std::pair("stopping", 100),
                          std::pair("blackout", 103), std::pair("draining", 111)));
  EXPECT_EQ(course.record().at("blackout_ns"), 8 * kMs);
  EXPECT_EQ(course.record().at("end"), "drained");
  EXPECT_EQ(course.record().at("last").at("drained_ns"), 900 * kMs);
  EXPECT_EQ(course.record().at("route"), "by a to b");
}

TEST(RelocationCourse, ThatIsRolledBackSaysHowLongTheVmStoodStill) {
  RelocationCourse course = at_source();
  course.on_event({{"event", "phase"}, {"phase", "switching"}}, kStart + 10 * kMs);
  course.on_event(
      {{"event", "phase"}, {"phase", "rolling_back"}, {"stopped_ns", kStart + 12 * kMs}},
      kStart + 30 * kMs);
  course.end("stays_here", "the link went", {}, kStart + 40 * kMs);
  EXPECT_THAT(phases_of(course),
              ElementsAre(std::pair("preparing", 0), std::pair("stopping", 10),
                          std::pair("blackout", 12), std::pair("rolling back", 30)));
  EXPECT_EQ(course.record().at("message"), "the link went");
}

TEST(RelocationCourse, AtTheDestinationGoesFromTheReadPointToDrained) {
  RelocationCourse course("web", CourseSide::kDestination, "there:1", {}, kStart);
  course.on_event({{"event", "connected"}, {"peer", "there:1"}}, kStart);
  course.on_event({{"event", "read_point"}}, kStart + 50 * kMs);
  course.on_event({{"event", "arrived"}}, kStart + 57 * kMs);
  course.on_event({{"event", "link"}, {"up", false}, {"message", "gone"}}, kStart + 60 * kMs);
  course.on_event({{"event", "drained"}, {"report", {{"transport", "tcp"}, {"faults", 3}}}},
                  kStart + 90 * kMs);
  course.end("drained", "", nullptr, kStart + 91 * kMs);
  EXPECT_THAT(phases_of(course), ElementsAre(std::pair("preparing", 0), std::pair("switching", 50),
                                             std::pair("arriving", 57)));
  EXPECT_EQ(course.record().at("marks").size(), 2U);
  EXPECT_EQ(course.record().at("marks")[1].at("text"), "link lost: gone");
  EXPECT_EQ(course.record().at("transport"), "tcp");
  EXPECT_EQ(course.record().at("last").at("faults"), 3);
  // However short after another one: it is the last.
  EXPECT_EQ(course.record().at("samples").back().at(4), 3);
}

TEST(RelocationCourse, OfAnyLengthHasABoundedNumberOfSamplesFromBeginningToEnd) {
  RelocationCourse course = at_source();
  constexpr uint64_t kTicks = 36'000;  // an hour
  for (uint64_t tick = 0; tick < kTicks; ++tick) {
    course.on_event({{"event", "progress"}, {"pages_total", kTicks}, {"pages_resident", tick}},
                    kStart + tick * 100 * kMs);
  }
  const json& samples = course.record().at("samples");
  EXPECT_LT(samples.size(), RelocationCourse::kMaxSamples);
  EXPECT_GT(samples.size(), RelocationCourse::kMaxSamples / 4);
  EXPECT_EQ(samples.front().at(0), 0);
  EXPECT_GT(samples.back().at(0).get<uint64_t>(), 99 * kTicks);
  // Evenly: what was thinned out early is no thinner than what came late.
  uint64_t gap = samples[1].at(0).get<uint64_t>() - samples[0].at(0).get<uint64_t>();
  for (size_t i = 2; i < samples.size(); ++i)
    EXPECT_LE(samples[i].at(0).get<uint64_t>() - samples[i - 1].at(0).get<uint64_t>(), gap + 100);
}

TEST(RelocationCourse, HasABoundedNumberOfMarks) {
  RelocationCourse course = at_source();
  for (int i = 0; i < 1000; ++i)
    course.on_event({{"event", "notice"}, {"message", "again"}}, kStart);
  EXPECT_EQ(course.record().at("marks").size(), RelocationCourse::kMaxMarks);
}

TEST(RelocationCourse, NeverGoesBackInTime) {
  RelocationCourse course = at_source();
  course.on_event({{"event", "phase"}, {"phase", "switching"}}, kStart + 50 * kMs);
  course.on_event({{"event", "running"}}, kStart - 1000 * kMs);  // the clock was set back
  EXPECT_THAT(phases_of(course), ElementsAre(std::pair("preparing", 0), std::pair("stopping", 50),
                                             std::pair("draining", 50)));
}

TEST(RelocationCourse, GoesOnOnlyFromARecordThatIsWhole) {
  json record = at_source().record();
  EXPECT_TRUE(RelocationCourse::can_go_on(record, CourseSide::kSource));
  EXPECT_FALSE(RelocationCourse::can_go_on(record, CourseSide::kDestination));
  json over = record;
  over["end"] = "drained";
  EXPECT_FALSE(RelocationCourse::can_go_on(over, CourseSide::kSource));
  json damaged = record;
  damaged["samples"] = {{1, 2, "three"}};
  EXPECT_FALSE(RelocationCourse::can_go_on(damaged, CourseSide::kSource));
  damaged = record;
  damaged["phases"] = json::array();
  EXPECT_FALSE(RelocationCourse::can_go_on(damaged, CourseSide::kSource));
}

TEST(RelocationRecords, AreFoundByNameAndOverwritten) {
  TemporaryDirectory base;
  EXPECT_FALSE(load_relocation_record(base.path(), "web"));
  ASSERT_TRUE(save_relocation_record(base.path(), "web", {{"version", 1}, {"vm", "web"}}).ok());
  ASSERT_TRUE(
      save_relocation_record(base.path(), "web", {{"version", 1}, {"vm", "web"}, {"end", "x"}})
          .ok());
  auto record = load_relocation_record(base.path(), "web");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->at("end"), "x");
  EXPECT_FALSE(save_relocation_record(base.path(), "../web", {}).ok());
  EXPECT_FALSE(load_relocation_record(base.path(), "../web"));
}

TEST(RelocationRecords, OfOldVmsGo) {
  TemporaryDirectory base;
  for (size_t i = 0; i < kMaxRelocationRecords + 5; ++i) {
    ASSERT_TRUE(save_relocation_record(base.path(), fmt::format("vm{}", i), {{"version", 1}}).ok());
  }
  EXPECT_EQ(load_relocation_records(base.path()).size(), kMaxRelocationRecords);
  EXPECT_TRUE(load_relocation_record(base.path(), fmt::format("vm{}", kMaxRelocationRecords + 4)));
}

TEST(CourseRecorder, KeepsWhatEndedAndGoesOnWithWhatDidNot) {
  TemporaryDirectory base;
  CourseRecorder first(base.path(), "web");
  first.on_event({{"event", "progress"}});  // of nothing
  EXPECT_FALSE(load_relocation_record(base.path(), "web"));
  first.begin(CourseSide::kSource, "there:1", {});
  first.end("stays_here", "refused", nullptr);
  EXPECT_FALSE(first.under_way());
  EXPECT_EQ(load_relocation_record(base.path(), "web")->at("end"), "stays_here");

  json unfinished = at_source().record();
  ASSERT_TRUE(save_relocation_record(base.path(), "web", unfinished).ok());
  CourseRecorder second(base.path(), "web");
  second.go_on(CourseSide::kSource, "there:1", {});
  second.end("drained", "", nullptr);
  auto record = load_relocation_record(base.path(), "web");
  EXPECT_EQ(record->at("started_ns"), kStart);
  EXPECT_EQ(record->at("marks")[0].at("text"), "another supervisor took over");
}

}  // namespace
}  // namespace vmhop

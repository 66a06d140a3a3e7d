#include "backend/session/refusal_log.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <memory>
#include <sstream>

namespace vmhop {
namespace {

class ARefusalLog : public testing::Test {
 protected:
  void SetUp() override {
    before_ = spdlog::default_logger();
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_st>(said_);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("refusals", std::move(sink)));
  }
  void TearDown() override { spdlog::set_default_logger(before_); }

  size_t lines() const {
    std::string text = said_.str();
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  void turn_away(size_t count, RefusalLog::Clock::time_point now) {
    for (size_t i = 0; i < count; ++i)
      log_.add("10.0.0.1:1", Error("silent"), now);
  }

  std::ostringstream said_;
  std::shared_ptr<spdlog::logger> before_;
  RefusalLog log_;
};

TEST_F(ARefusalLog, SaysOnlySoMuchInAPeriod) {
  turn_away(10 * RefusalLog::kLines, RefusalLog::Clock::now());
  EXPECT_EQ(lines(), RefusalLog::kLines);
}

TEST_F(ARefusalLog, SaysHowManyThereWereInTheNext) {
  auto now = RefusalLog::Clock::now();
  turn_away(RefusalLog::kLines + 5, now);
  turn_away(1, now + RefusalLog::kPeriod);
  EXPECT_EQ(lines(), RefusalLog::kLines + 2);
  EXPECT_NE(said_.str().find("5 more"), std::string::npos);
}

}  // namespace
}  // namespace vmhop

#include "cli/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

namespace vmhop {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::MatchesRegex;

class Logging : public testing::Test {
 protected:
  ~Logging() override { set_up_logging({"command", "", "info", LogFormat::kText}); }

  // What `action` writes to standard error, set up like this.
  static std::string said(const LogSetup& setup, const std::function<void()>& action) {
    set_up_logging(setup);
    testing::internal::CaptureStderr();
    action();
    spdlog::default_logger()->flush();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(Logging, InJsonIsAnObjectALine) {
  std::string text = said({"supervisor", "web", "info", LogFormat::kJson}, [] {
    spdlog::info("{} runs here", "web");
    spdlog::warn("two\nlines, \"quotes\" and \xff");
    spdlog::debug("not this one");
    complain("it failed");
    tell_user("done");
  });
  std::istringstream lines(text);
  std::vector<json> entries;
  for (std::string line; std::getline(lines, line);) {
    entries.push_back(json::parse(line, nullptr, false));
    ASSERT_TRUE(entries.back().is_object()) << line;
    EXPECT_THAT(entries.back().at("time").get<std::string>(),
                MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z"));
    EXPECT_EQ(entries.back().at("vm"), "web");
    EXPECT_EQ(entries.back().at("role"), "supervisor");
    EXPECT_EQ(entries.back().at("pid"), ::getpid());
  }
  ASSERT_EQ(entries.size(), 4U);
  EXPECT_EQ(entries[0].at("message"), "web runs here");
  EXPECT_EQ(entries[0].at("level"), "info");
  EXPECT_THAT(entries[1].at("message").get<std::string>(),
              HasSubstr("two\nlines, \"quotes\" and "));
  EXPECT_EQ(entries[1].at("level"), "warn");
  EXPECT_EQ(entries[2].at("level"), "error");
  EXPECT_EQ(entries[3].at("message"), "done");
}

TEST_F(Logging, InTextIsAsPeopleReadIt) {
  EXPECT_EQ(said({"supervisor", "web", "warn", LogFormat::kText},
                 [] {
                   spdlog::info("hidden");
                   spdlog::warn("careful");
                   tell_user("done");
                   complain("it failed");
                 }),
            "vmhop: careful\ndone\nvmhop: it failed\n");
  EXPECT_EQ(said({"pager", "web", "info", LogFormat::kText}, [] { spdlog::info("x"); }),
            "vmhop pager: x\n");
}

TEST_F(Logging, OfHelpersIsAsTheirSupervisors) {
  set_up_logging({"supervisor", "web", "debug", LogFormat::kJson});
  LogSetup pager = inherited_logging("pager");
  EXPECT_EQ(pager.role, "pager");
  EXPECT_EQ(pager.vm, "web");
  EXPECT_EQ(pager.level, "debug");
  EXPECT_EQ(pager.format, LogFormat::kJson);
  // A helper is a program that first sets up the logging of any program.
  set_up_logging({"command", "", "info", LogFormat::kText});
  EXPECT_EQ(inherited_logging("pager").level, "debug");
  EXPECT_EQ(inherited_logging("pager").vm, "web");
}

TEST_F(Logging, IsKnownBeforeTheCommandLineIsRead) {
  EXPECT_EQ(wanted_log_format({"status", "--log-format", "json"}), LogFormat::kJson);
  EXPECT_EQ(wanted_log_format({"--log-format=text", "fly"}), LogFormat::kText);
  EXPECT_EQ(wanted_log_format({"run", "web", "--", "qemu", "--log-format", "json"}), std::nullopt);
  EXPECT_EQ(wanted_log_format({"--log-format"}), std::nullopt);
  EXPECT_EQ(wanted_log_format({"--log-format", "xml"}), std::nullopt);
}

}  // namespace
}  // namespace vmhop

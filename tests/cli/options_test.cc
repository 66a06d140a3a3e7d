#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/exit_codes.h"

namespace vmhop {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class HelpOf : public testing::TestWithParam<const char*> {};

TEST_P(HelpOf, IsThere) {
  CommandLine line = parse_command_line({GetParam(), "--help"});
  EXPECT_FALSE(line.command);
  EXPECT_EQ(line.exit_code, kExitDone);
  EXPECT_THAT(line.text, HasSubstr(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Options, HelpOf,
                         testing::Values("keygen", "run", "receive", "relocate", "status", "drop"));

TEST(Options, TheProgramsHelpNamesCommandsAndExitCodes) {
  CommandLine line = parse_command_line({"--help"});
  EXPECT_EQ(line.exit_code, kExitDone);
  for (const char* word : {"keygen", "run", "receive", "relocate", "status", "drop", "Exit codes"})
    EXPECT_THAT(line.text, HasSubstr(word));
  EXPECT_THAT(line.text, testing::Not(HasSubstr("internal-")));
}

TEST(Options, TheVersionIsThere) {
  CommandLine line = parse_command_line({"--version"});
  EXPECT_EQ(line.exit_code, kExitDone);
  EXPECT_THAT(line.text, HasSubstr("vmhop "));
}

TEST(Options, RunTakesQemusCommandAsItIs) {
  CommandLine line = parse_command_line({"run", "web", "--", "qemu", "-m", "1G", "--", "--help"});
  ASSERT_TRUE(line.command);
  const auto& run = std::get<RunOptions>(*line.command);
  EXPECT_EQ(run.name, "web");
  EXPECT_THAT(run.qemu, ElementsAre("qemu", "-m", "1G", "--", "--help"));
}

TEST(Options, ReceiveNeedsAnAddress) {
  EXPECT_EQ(parse_command_line({"receive", "web", "--", "qemu"}).exit_code, kExitUsage);
  CommandLine line =
      parse_command_line({"receive", "web", "--listen", ":4000", "--once", "--", "qemu"});
  ASSERT_TRUE(line.command);
  const auto& receive = std::get<ReceiveOptions>(*line.command);
  EXPECT_EQ(receive.listen, ":4000");
  EXPECT_TRUE(receive.once);
  EXPECT_FALSE(receive.key_path.empty());
}

TEST(Options, AFrontIsChosenForRunAndReceive) {
  auto front = [](std::vector<std::string> arguments) {
    CommandLine line = parse_command_line(std::move(arguments));
    if (!line.command) return std::string("refused");
    if (const auto* run = std::get_if<RunOptions>(&*line.command)) return run->front;
    return std::get<ReceiveOptions>(*line.command).front;
  };
  EXPECT_EQ(front({"run", "web", "--", "qemu"}), "auto");
  EXPECT_EQ(front({"run", "web", "--front", "preload", "--", "qemu"}), "preload");
  EXPECT_EQ(front({"receive", "web", "--listen", ":1", "--front", "object", "--", "qemu"}),
            "object");
  EXPECT_EQ(front({"run", "web", "--front", "back", "--", "qemu"}), "refused");
}

TEST(Options, APagerHasNoQemuOfItsOwn) {
  CommandLine line = parse_command_line({"pager", "web", "--listen", ":4000", "--once"});
  ASSERT_TRUE(line.command);
  const auto& pager = std::get<PagerOptions>(*line.command);
  EXPECT_EQ(pager.listen, ":4000");
  EXPECT_TRUE(pager.once);
  EXPECT_EQ(parse_command_line({"pager", "web", "--listen", ":1", "--", "qemu"}).exit_code,
            kExitUsage);
}

TEST(Options, RelocateHasSensibleDefaults) {
  CommandLine line = parse_command_line({"relocate", "web", "there:4000"});
  ASSERT_TRUE(line.command);
  const auto& relocate = std::get<RelocateOptions>(*line.command);
  EXPECT_EQ(relocate.destination, "there:4000");
  EXPECT_FALSE(relocate.prepare_seconds.has_value());
  EXPECT_EQ(relocate.switch_seconds, 10);
  EXPECT_FALSE(relocate.plain_data);
}

TEST(Options, RelocateTakesItsOptionsAnywhere) {
  CommandLine line = parse_command_line({"relocate", "--json", "web", "--plain-data", "there:4000",
                                         "--wait", "--key", "k", "--switch-timeout", "2"});
  ASSERT_TRUE(line.command);
  const auto& relocate = std::get<RelocateOptions>(*line.command);
  EXPECT_TRUE(relocate.json && relocate.plain_data && relocate.wait);
  EXPECT_EQ(relocate.key_path, "k");
  EXPECT_EQ(relocate.switch_seconds, 2);
}

TEST(Options, TheHiddenCommandsAreThere) {
  EXPECT_TRUE(std::get<HelperOptions>(*parse_command_line({"internal-exporter"}).command).exporter);
  EXPECT_FALSE(std::get<HelperOptions>(*parse_command_line({"internal-pager"}).command).exporter);
}

TEST(Options, WrongUsageIsCodeTwoAndSaysWhy) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {},
           {"fly"},
           {"run", "web"},
           {"run", "web", "--"},
           {"run", "--", "qemu"},
           {"relocate", "web"},
           {"relocate", "web", "there:1", "extra"},
           {"relocate", "web", "there:1", "--switch-timeout", "-1"},
           {"status", "--", "qemu"},
           {"status", "--log-level", "shout"}}) {
    CommandLine line = parse_command_line(arguments);
    EXPECT_FALSE(line.command);
    EXPECT_EQ(line.exit_code, kExitUsage);
    EXPECT_THAT(line.text, HasSubstr("vmhop: "));
  }
}

}  // namespace
}  // namespace vmhop

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "cli/documents/documents.h"
#include "cli/documents/page_texts.h"
#include "cli/documents/roff.h"
#include "cli/options.h"

namespace vmhop {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(Roff, TextMeansItself) {
  EXPECT_EQ(roff_text("a\\b --key 'x' \"y\""), "a\\(rsb \\-\\-key \\(aqx\\(aq \\(dqy\\(dq");
  EXPECT_EQ(roff_text(".PP is no request"), "\\&.PP is no request");
  EXPECT_EQ(roff_text("QEMU ARGS…"), "QEMU ARGS...");
  EXPECT_EQ(roff_text("2 µs"), "2 \\[u00B5]s");
}

TEST(Roff, HelpTextsKeepTheirExamplesAsTheyAre) {
  ManPage page("x", 1, "0");
  page.help_text("Two lines\nof words.\n  vmhop run\n    more\nAnd on.");
  EXPECT_THAT(page.text(), HasSubstr(".PP\nTwo lines of words.\n.PP\n.RS 4\n.nf\nvmhop run\n"
                                     "  more\n.fi\n.RE\n.PP\nAnd on.\n"));
}

class ACommandsText : public testing::Test {
 protected:
  CLI::App app_{"Does it: NAME -- QEMU ARGS…", "does"};
  std::string value_;
  double number_ = 2;
  bool flag_ = false;
};

TEST_F(ACommandsText, TellsWhatFollowsIt) {
  EXPECT_TRUE(read_command(app_).takes_qemu);
  EXPECT_EQ(read_command(app_).description, "Does it");
}

TEST_F(ACommandsText, HasTheChoicesOfEitherSpelling) {
  app_.add_option("--one", value_)->check(CLI::IsMember({"a", "b"}));
  app_.add_option("--two", value_)->type_name("auto|none|node:N");
  CommandText text = read_command(app_);
  ASSERT_EQ(text.options.size(), 3U);  // and --help
  EXPECT_THAT(text.options[1].choices, ElementsAre("a", "b"));
  EXPECT_EQ(text.options[1].value, "ONE");
  EXPECT_THAT(text.options[2].choices, ElementsAre("auto", "none", "node:"));
  EXPECT_EQ(text.options[2].value, "auto|none|node:N");
}

TEST_F(ACommandsText, HasRangesDefaultsAndWhatExcludesWhat) {
  app_.add_option("--span", number_)->check(CLI::Range(0.5, 4.0))->capture_default_str();
  auto* flag = app_.add_flag("-f,--flag", flag_);
  app_.add_flag("--other", flag_)->excludes(flag);
  CommandText text = read_command(app_);
  EXPECT_EQ(text.options[1].range, "0.5 - 4");
  EXPECT_EQ(text.options[1].value, "NUMBER");
  EXPECT_EQ(text.options[1].default_text, "2");
  EXPECT_EQ(text.options[2].value, "");
  EXPECT_THAT(text.options[2].names, ElementsAre("-f", "--flag"));
  EXPECT_EQ(long_name(text.options[2]), "--flag");
  EXPECT_THAT(text.options[3].excludes, ElementsAre("--flag"));
}

TEST_F(ACommandsText, HasNoHiddenCommands) {
  app_.add_subcommand("seen", "");
  app_.add_subcommand("hidden", "")->group("");
  ProgramText program = read_program(app_);
  ASSERT_EQ(program.commands.size(), 1U);
  EXPECT_EQ(program.commands[0].name, "seen");
}

// A new command needs an example in page_texts.cc.
TEST(PageTexts, EveryCommandHasAnExample) {
  look_at_command_line({"/key", {}}, [](const CLI::App& app) {
    for (const CommandText& command : read_program(app).commands)
      EXPECT_FALSE(examples_of(command.name).empty()) << command.name;
  });
}

TEST(Completions, QuoteWhatShellsWouldTakeApart) {
  ProgramText program;
  program.commands = {{"go", "Doesn't [stop]: ever", "", {}, {}, false}};
  EXPECT_THAT(zsh_completion(program).text, HasSubstr("'go:Doesn'\\''t \\[stop\\]\\: ever'"));
  EXPECT_THAT(bash_completion(program).text, Not(HasSubstr("Doesn't")));
}

}  // namespace
}  // namespace vmhop

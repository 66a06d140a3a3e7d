// What a person sees and does at a terminal.
#include "tests/lab/terminal.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's

#include "cli/exit_codes.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;

bool contains(std::string_view text, std::string_view wanted) {
  return count_of(text, wanted) > 0;
}

// Without what was drawn over.
std::string what_stays(std::string_view shown) {
  constexpr std::string_view kAgain = "\r\x1b[K";
  std::string stays;
  while (!shown.empty()) {
    std::string_view line = shown.substr(0, shown.find('\n') + 1);
    if (line.empty()) line = shown;
    shown.remove_prefix(line.size());
    size_t last = line.rfind(kAgain);
    stays += last == std::string_view::npos ? line : line.substr(last + kAgain.size());
  }
  return stays;
}

class AtATerminal : public HopTest {
 protected:
  void SetUp() override;
  void start(const std::vector<std::string>& arguments);
  // A relocation over a slow link.
  void start_slow_relocation();
  void press_ctrl_c() { ASSERT_OK(terminal_->type(Terminal::kCtrlC)); }
  // The command ends with this code, and leaves the terminal as it found it: with a prompt at the
  // beginning of a line.
  void expect_end(int exit_code);

  std::unique_ptr<Terminal> terminal_;
  std::optional<Process> command_;
  std::string shown_;  // once it has ended
};

void AtATerminal::SetUp() {
  HopTest::SetUp();
  if (HasFatalFailure()) return;
  ASSERT_VALUE(terminal_, Terminal::open());
  source_->set_environment("TERM", "xterm");
  ASSERT_OK(boot());
}

void AtATerminal::start(const std::vector<std::string>& arguments) {
  ASSERT_VALUE(command_, source_->start_on(*terminal_, arguments));
}

void AtATerminal::start_slow_relocation() {
  ASSERT_OK(await());
  ASSERT_OK(slow_down());
  start({"relocate", kVm, destination_->endpoint(), "--key", source_->key()});
}

void AtATerminal::expect_end(int exit_code) {
  ASSERT_VALUE(ExitStatus ended, command_->wait(within(60s)));
  ASSERT_VALUE(shown_, terminal_->shown());
  EXPECT_EQ(ended.shell_code(), exit_code) << shown_;
  EXPECT_TRUE(terminal_->has_its_first_settings());
  EXPECT_TRUE(shown_.ends_with("\r\n")) << shown_;
}

TEST_F(AtATerminal, CtrlCBeforeTheCommitLeavesTheVmWhereItIs) {
  ASSERT_NO_FATAL_FAILURE(start_slow_relocation());
  ASSERT_OK(wait_for_event(*source_monitor_, "STOP"));
  press_ctrl_c();
  expect_end(kExitInterrupted);
  EXPECT_TRUE(contains(shown_, "aborted; vm runs on here")) << shown_;
  ASSERT_OK(speed_up());
  EXPECT_OK(runs_on_at_source());
}

TEST_F(AtATerminal, ARelocationThatIsHeldStopsTheVmAtItsWord) {
  ASSERT_OK(await());
  start({"relocate", kVm, destination_->endpoint(), "--key", source_->key(), "--hold"});
  ASSERT_OK(terminal_->wait_for(
      [](auto shown) { return contains(shown, "ready. It hops at `go`"); }, within(60s)));
  EXPECT_OK(guest_goes_on());
  ASSERT_VALUE(std::string state, state_at(*source_));
  EXPECT_EQ(state, "preparing");
  ASSERT_OK(terminal_->type("go\n"));
  expect_end(kExitDone);
  EXPECT_OK(runs_at_destination());
}

TEST_F(AtATerminal, ARelocationThatIsHeldIsCalledOffByAnyOtherWord) {
  ASSERT_OK(await());
  start({"relocate", kVm, destination_->endpoint(), "--key", source_->key(), "--hold"});
  ASSERT_OK(terminal_->type("no\n"));
  expect_end(kExitInterrupted);
  EXPECT_TRUE(contains(shown_, "aborted; vm runs on here")) << shown_;
  EXPECT_OK(runs_on_at_source());
}

TEST_F(AtATerminal, ARelocationThatIsHeldEndsWithItsCommand) {
  ASSERT_OK(await());
  start({"relocate", kVm, destination_->endpoint(), "--key", source_->key(), "--hold"});
  ASSERT_OK(terminal_->wait_for(
      [](auto shown) { return contains(shown, "ready. It hops at `go`"); }, within(60s)));
  command_->signal(SIGKILL);
  ASSERT_OK(wait_for_state(*source_, "running"));
  EXPECT_OK(runs_on_at_source());
}

TEST_F(AtATerminal, CtrlCAfterTheCommitLeavesItDraining) {
  ASSERT_NO_FATAL_FAILURE(start_slow_relocation());
  // It is told when it has been committed, before it hears that it runs.
  ASSERT_OK(
      terminal_->wait_for([](auto shown) { return contains(shown, "vm runs at "); }, within(60s)));
  press_ctrl_c();
  expect_end(kExitDetached);
  EXPECT_TRUE(contains(shown_, "Follow it with `vmhop status vm --watch`")) << shown_;
  ASSERT_OK(speed_up());
  EXPECT_OK(runs_at_destination());
}

TEST_F(AtATerminal, ProgressIsOneLineThatIsDrawnAgainAndGoesInTheEnd) {
  ASSERT_NO_FATAL_FAILURE(start_slow_relocation());
  ASSERT_OK(terminal_->wait_for([](auto shown) { return count_of(shown, " faults  p50 ") >= 3; },
                                within(60s)));
  ASSERT_OK(speed_up());
  expect_end(kExitDone);
  std::string left = what_stays(shown_);
  EXPECT_FALSE(contains(left, " faults  p50 ")) << left;
  EXPECT_TRUE(contains(left, "vm runs at ")) << left;
  EXPECT_TRUE(contains(left, "with all of its memory")) << left;
  EXPECT_EQ(count_of(shown_, "\x1b[?7l"), count_of(shown_, "\x1b[?7h")) << "long lines wrap again";
}

TEST_F(AtATerminal, AWatchedStatusIsDrawnAgainUntilCtrlC) {
  constexpr std::string_view kScreen = "\x1b[H\x1b[J";
  start({"status", kVm, "--watch"});
  ASSERT_OK(
      terminal_->wait_for([&](auto shown) { return count_of(shown, kScreen) >= 3; }, within(60s)));
  press_ctrl_c();
  expect_end(kExitDone);
  EXPECT_EQ(count_of(shown_, "running"), count_of(shown_, kScreen)) << shown_;
}

TEST_F(AtATerminal, AWatchedStatusFollowsTheSizeOfItsWindow) {
  constexpr std::string_view kScreen = "\x1b[H\x1b[J";
  ASSERT_OK(terminal_->resize(100, 30));
  start({"status", kVm, "--watch"});
  ASSERT_OK(
      terminal_->wait_for([](auto shown) { return contains(shown, " MiB\r\n"); }, within(60s)));
  ASSERT_OK(terminal_->resize(19, 30));
  // Its name takes 17 columns.
  std::string narrow = fmt::format("{}vm               ru\r\n", kScreen);
  ASSERT_OK(terminal_->wait_for([&](auto shown) { return contains(shown, narrow); }, within(60s)));
  press_ctrl_c();
  expect_end(kExitDone);
}

TEST_F(AtATerminal, ThatTakesNoOrdersAWatchedStatusIsPrintedAgain) {
  source_->set_environment("TERM", "dumb");
  start({"status", "--watch"});
  ASSERT_OK(
      terminal_->wait_for([](auto shown) { return count_of(shown, "NAME ") >= 2; }, within(60s)));
  press_ctrl_c();
  ASSERT_VALUE(ExitStatus ended, command_->wait(within(60s)));
  EXPECT_TRUE(ended.clean());
  ASSERT_VALUE(shown_, terminal_->shown());
  EXPECT_FALSE(contains(shown_, "\x1b")) << shown_;
}

TEST_F(AtATerminal, AWatchedStatusHasBarsWhileMemoryIsOnItsWay) {
  ASSERT_OK(await());
  ASSERT_OK(slow_down());
  ASSERT_VALUE(relocating_, start_relocation());
  ASSERT_OK(terminal_->resize(100, 30));
  start({"status", kVm, "--watch"});
  ASSERT_OK(terminal_->wait_for(
      [](auto shown) { return contains(shown, "·") && contains(shown, "  blackout  "); },
      within(60s)));
  press_ctrl_c();
  expect_end(kExitDone);
  for (const char* part : {"  resident  ", "  rate  ", "  faults  ", " to go"})
    EXPECT_TRUE(contains(shown_, part)) << part << shown_;
  ASSERT_OK(speed_up());
  EXPECT_OK(runs_at_destination());
}

TEST_F(AtATerminal, AWatchedStatusEndsWithItsVm) {
  start({"status", kVm, "--watch"});
  ASSERT_OK(
      terminal_->wait_for([](auto shown) { return contains(shown, "running"); }, within(60s)));
  ASSERT_OK(console_->send("q"));
  expect_end(kExitDone);
  EXPECT_TRUE(contains(shown_, "vm is no longer on this host")) << shown_;
}

}  // namespace
}  // namespace vmhop::lab

// The preload library in the QEMU that is installed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <array>

#include "qemu-memory-backend/front_control.h"
#include "qemu-memory-backend/front_listener.h"
#include "qemu-memory-backend/front_variable.h"
#include "tests/front/preloaded_process.h"
#include "tests/front/temporary_directory.h"

namespace vmhop::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr uint64_t kSize = 64 << 20;

class StockQemuTest : public testing::Test {
 protected:
  // A destination's QEMU, waiting for a VM.
  PreloadedCommand incoming_qemu(const std::string& backend_options,
                                 std::vector<std::string> more = {}) const {
    std::string backend = "memory-backend-file,id=ram0,size=64M,share=on,mem-path=/proc/self/fd/" +
                          std::to_string(ram_.get()) + backend_options;
    std::array<FrontRamFile, 1> files{{{ram_.get(), "ram0"}}};
    PreloadedCommand command{
        .arguments = {"qemu-system-x86_64", "-M", "q35,memory-backend=ram0", "-m", "64M",
                      "-nodefaults", "-display", "none", "-S", "-incoming", "defer", "-qmp",
                      "stdio", "-object", backend},
        .front_variable = lazy_front_variable(control_.fd().get(), files, listener_.path()).value(),
        .inherited = {control_.fd().get(), ram_.get()},
        .user = {}};
    command.arguments.insert(command.arguments.end(), more.begin(), more.end());
    return command;
  }

  // Its one region arrives, then it starts, answers and quits, having touched none of its RAM.
  void expect_start(const PreloadedCommand& command) {
    auto qemu = PreloadedProcess::start(command).value();
    auto offer = listener_.receive(seconds(60));
    ASSERT_TRUE(offer.ok()) << offer.error().message() << "; " << qemu.errors();
    EXPECT_EQ(offer->region.id, "ram0");
    EXPECT_EQ(offer->region.size, kSize);
    EXPECT_EQ(offer->region.page_size, 4096U);
    EXPECT_EQ(offer->region.pid, qemu.pid());
    ASSERT_TRUE(offer->accept().ok());
    EXPECT_THAT(qemu.receive(), HasSubstr("\"QMP\""));
    EXPECT_THAT(qemu.ask(R"({"execute":"qmp_capabilities"})"), HasSubstr("return"));
    qemu.send(R"({"execute":"quit"})");
    EXPECT_EQ(qemu.wait(), 0);
    EXPECT_EQ(qemu.errors(), "");
    EXPECT_EQ(listener_.receive(milliseconds(0)).error().kind(), ErrorKind::kTimedOut);
    EXPECT_EQ(wait_fd(offer->region.userfaultfd.get(), POLLIN, 0).value() & POLLIN, 0);
  }

  // It refuses to start and says why. Accepts the region if it comes that far.
  void expect_refusal(const PreloadedCommand& command, const std::string& why) {
    auto qemu = PreloadedProcess::start(command).value();
    auto offer = listener_.receive(seconds(5));
    if (offer) {
      EXPECT_TRUE(offer->accept().ok());
    }
    EXPECT_EQ(qemu.wait(), EXIT_FAILURE);
    EXPECT_THAT(qemu.errors(), HasSubstr(why));
  }

  TemporaryDirectory directory_;
  FrontControl control_ = FrontControl::create().value();
  FrontListener listener_ = FrontListener::listen(directory_ / "front").value();
  UniqueFd ram_ = create_memfd("ram0", kSize).value();
};

TEST_F(StockQemuTest, HandsOverItsRamAndStarts) {
  expect_start(incoming_qemu(""));
}

TEST_F(StockQemuTest, StartsInItsSandbox) {
  expect_start(incoming_qemu(
      "", {"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"}));
}

TEST_F(StockQemuTest, StartsWithItsOtherMemoryOptions) {
  expect_start(incoming_qemu(",merge=on,dump=off,reserve=off,host-nodes=0,policy=bind"));
}

TEST_F(StockQemuTest, RefusesPreallocationInsteadOfWaitingForEver) {
  expect_refusal(incoming_qemu(",prealloc=on"), "Leave out prealloc");
}

TEST_F(StockQemuTest, RefusesLockedMemory) {
  expect_refusal(incoming_qemu("", {"-overcommit", "mem-lock=on"}), "Leave out mem-lock=on");
}

TEST_F(StockQemuTest, RefusesToStartWhenVmhopIsGone) {
  PreloadedCommand command = incoming_qemu("");
  { FrontListener gone = std::move(listener_); }
  auto qemu = PreloadedProcess::start(command).value();
  EXPECT_EQ(qemu.wait(), EXIT_FAILURE);
  EXPECT_THAT(qemu.errors(), HasSubstr("nobody serves its faults"));
  EXPECT_THAT(qemu.errors(), HasSubstr("unable to map backing store for guest RAM"));
}

}  // namespace
}  // namespace vmhop::test

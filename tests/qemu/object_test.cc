// The object memory-backend-postcopy in a QEMU with our patches, as vmhop and users meet it. What
// is under test inside of QEMU is in the patches' own test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "qemu-memory-backend/front_listener.h"
#include "tests/front/preloaded_process.h"
#include "tests/front/temporary_directory.h"

namespace vmhop::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr uint64_t kSize = 64 << 20;

// Builds it if it was not yet.
std::string built_qemu(const std::string& version) {
  std::string command = std::string(VMHOP_BUILD_QEMU) + " " + version;
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "re"), &::pclose);
  std::string path(4096, '\0');
  if (!pipe || std::fgets(path.data(), static_cast<int>(path.size()), pipe.get()) == nullptr) {
    return "";
  }
  path.resize(path.find('\n'));
  return path;
}

class QemuObjectTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { ASSERT_NE(qemu_, ""); }

  // A destination's QEMU, waiting for a VM; `more` ends the object's options.
  PreloadedCommand incoming_qemu(const std::string& backend_options = "",
                                 std::vector<std::string> more = {}) const {
    PreloadedCommand command = plain_qemu(",pager=" + listener_.path() + backend_options);
    command.arguments.insert(command.arguments.end(), {"-S", "-incoming", "defer"});
    command.arguments.insert(command.arguments.end(), more.begin(), more.end());
    return command;
  }
  PreloadedCommand plain_qemu(const std::string& backend_options) const {
    return {.arguments = {qemu_, "-M", "q35,memory-backend=ram0", "-m", "64M", "-nodefaults",
                          "-display", "none", "-qmp", "stdio", "-object",
                          "memory-backend-postcopy,id=ram0,size=64M" + backend_options},
            .front_variable = "",
            .inherited = {},
            .preload = "",
            .user = {}};
  }

  // It refuses to start, saying why and what to do, and has not even connected.
  void expect_refusal(const PreloadedCommand& command, const std::string& why,
                      const std::string& remedy = "") {
    auto qemu = PreloadedProcess::start(command).value();
    EXPECT_EQ(qemu.wait(), EXIT_FAILURE);
    EXPECT_THAT(qemu.errors(), HasSubstr(why));
    EXPECT_THAT(qemu.errors(), HasSubstr(remedy));
  }
  // It has handed over its RAM, and takes no such device.
  void expect_device_refused(const std::string& name, std::vector<std::string> arguments) {
    auto qemu = PreloadedProcess::start(incoming_qemu("", std::move(arguments))).value();
    auto offer = listener_.receive(seconds(60));
    ASSERT_TRUE(offer.ok()) << offer.error().message() << "; " << qemu.errors();
    ASSERT_TRUE(offer->accept().ok());
    EXPECT_EQ(qemu.wait(), EXIT_FAILURE);
    EXPECT_THAT(qemu.errors(),
                HasSubstr("device '" + name +
                          "' cannot be used while pages of memory backend 'ram0' are missing"));
    EXPECT_THAT(qemu.errors(), HasSubstr("Add it by device_add when"));
  }

  TemporaryDirectory directory_;
  std::string qemu_ = built_qemu(GetParam());
  FrontListener listener_ = FrontListener::listen(directory_ / "front").value();
};

std::string property(PreloadedProcess& qemu, const std::string& name) {
  return qemu.ask(R"({"execute":"qom-get","arguments":{"path":"/objects/ram0","property":")" +
                  name + R"("}})");
}

void start_qmp(PreloadedProcess& qemu) {
  EXPECT_THAT(qemu.receive(), HasSubstr("\"QMP\""));
  EXPECT_THAT(qemu.ask(R"({"execute":"qmp_capabilities"})"), HasSubstr("return"));
}

TEST_P(QemuObjectTest, HandsOverItsRamAndIsToldHowFarItIs) {
  auto qemu = PreloadedProcess::start(incoming_qemu()).value();
  auto offer = listener_.receive(seconds(60));
  ASSERT_TRUE(offer.ok()) << offer.error().message() << "; " << qemu.errors();
  EXPECT_EQ(offer->region.id, "ram0");
  EXPECT_EQ(offer->region.size, kSize);
  EXPECT_EQ(offer->region.page_size, 4096U);
  EXPECT_EQ(offer->region.pid, qemu.pid());
  EXPECT_TRUE(offer->region.watched);
  EXPECT_FALSE(offer->region.again);
  ASSERT_TRUE(offer->accept().ok());
  start_qmp(qemu);
  // None of its RAM has been touched.
  EXPECT_EQ(wait_fd(offer->region.userfaultfd.get(), POLLIN, 0).value() & POLLIN, 0);

  UniqueFd connection = offer->take_connection();
  ASSERT_TRUE(send_front_progress(connection, {.resident = 8192, .faults = 2}).ok());
  while (property(qemu, "resident").find("8192") == std::string::npos) {
  }
  EXPECT_THAT(property(qemu, "faults"), HasSubstr("2"));
  EXPECT_THAT(property(qemu, "drained"), HasSubstr("false"));

  uffdio_range all{.start = offer->region.address, .len = offer->region.size};
  ASSERT_EQ(::ioctl(offer->region.userfaultfd.get(), UFFDIO_UNREGISTER, &all), 0);
  ASSERT_TRUE(
      send_front_progress(connection, {.resident = kSize, .faults = 2, .drained = true}).ok());
  // It closes the connection, and never comes again.
  EXPECT_EQ(wait_fd(connection.get(), POLLIN, 20'000).value() & POLLIN, POLLIN);
  EXPECT_THAT(property(qemu, "drained"), HasSubstr("true"));
  EXPECT_EQ(listener_.receive(milliseconds(0)).error().kind(), ErrorKind::kTimedOut);
  qemu.send(R"({"execute":"quit"})");
  EXPECT_EQ(qemu.wait(), 0);
}

TEST_P(QemuObjectTest, OffersItsRamAgainWhenTheConnectionEnds) {
  auto qemu = PreloadedProcess::start(incoming_qemu()).value();
  {
    auto offer = listener_.receive(seconds(60));
    ASSERT_TRUE(offer.ok()) << offer.error().message() << "; " << qemu.errors();
    ASSERT_TRUE(offer->accept().ok());
  }
  auto again = listener_.receive(seconds(20));
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_TRUE(again->region.again);
  EXPECT_EQ(again->region.size, kSize);
  // Whoever takes over may refuse: it comes again all the same.
  ASSERT_TRUE(again->refuse("not yet").ok());
  EXPECT_TRUE(listener_.receive(seconds(20)).ok());
}

TEST_P(QemuObjectTest, StartsInItsSandbox) {
  auto qemu = PreloadedProcess::start(
                  incoming_qemu("", {"-sandbox",
                                     "on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
                                     "resourcecontrol=deny"}))
                  .value();
  auto offer = listener_.receive(seconds(60));
  ASSERT_TRUE(offer.ok()) << offer.error().message() << "; " << qemu.errors();
  ASSERT_TRUE(offer->accept().ok());
  start_qmp(qemu);
  qemu.send(R"({"execute":"quit"})");
  EXPECT_EQ(qemu.wait(), 0);
  EXPECT_EQ(qemu.errors(), "");
}

TEST_P(QemuObjectTest, RefusesPreallocation) {
  expect_refusal(incoming_qemu(",prealloc=on"), "cannot be preallocated", "Leave out prealloc=on");
}

TEST_P(QemuObjectTest, RefusesPreallocationForAllMemory) {
  expect_refusal(incoming_qemu("", {"-mem-prealloc"}), "cannot be preallocated",
                 "and -mem-prealloc");
}

TEST_P(QemuObjectTest, RefusesLockedMemory) {
  expect_refusal(incoming_qemu("", {"-overcommit", "mem-lock=on"}), "cannot be locked",
                 "Leave out -overcommit mem-lock");
}

TEST_P(QemuObjectTest, RefusesPrivateMemory) {
  expect_refusal(incoming_qemu(",share=off"), "share=off cannot be had");
}

TEST_P(QemuObjectTest, RefusesPrivateMemoryAtASourceToo) {
  expect_refusal(plain_qemu(",share=off"), "share=off cannot be had");
}

TEST_P(QemuObjectTest, RefusesAPagerForAVmThatIsNotToCome) {
  expect_refusal(plain_qemu(",pager=" + listener_.path()), "needs a VM that is to come",
                 "Start QEMU with -incoming");
}

TEST_P(QemuObjectTest, RefusesVfio) {
  expect_device_refused("vfio-pci", {"-device", "vfio-pci,host=0000:00:00.0"});
}

TEST_P(QemuObjectTest, RefusesVhostUser) {
  std::string chardev = "socket,id=c,server=on,wait=off,path=" + (directory_ / "backend");
  expect_device_refused("vhost-user-fs-pci",
                        {"-chardev", chardev, "-device", "vhost-user-fs-pci,chardev=c,tag=files"});
}

TEST_P(QemuObjectTest, RefusesVirtioMem) {
  expect_device_refused("virtio-mem-pci",
                        {"-m", "maxmem=256M", "-object", "memory-backend-ram,id=more,size=64M",
                         "-device", "virtio-mem-pci,memdev=more"});
}

TEST_P(QemuObjectTest, RefusesDataThatALoaderWritesToRam) {
  expect_device_refused("loader", {"-device", "loader,addr=0,data=1,data-len=4"});
}

TEST_P(QemuObjectTest, RefusesToStartWithoutAPager) {
  PreloadedCommand command = incoming_qemu();
  { FrontListener gone = std::move(listener_); }
  auto qemu = PreloadedProcess::start(command).value();
  EXPECT_EQ(qemu.wait(), EXIT_FAILURE);
  EXPECT_THAT(qemu.errors(), HasSubstr("nobody fills memory backend 'ram0'"));
}

TEST_P(QemuObjectTest, SaysWhyThePagerRefusedIt) {
  auto qemu = PreloadedProcess::start(incoming_qemu()).value();
  auto offer = listener_.receive(seconds(60));
  ASSERT_TRUE(offer.ok()) << offer.error().message() << "; " << qemu.errors();
  ASSERT_TRUE(offer->refuse("the source's pages are larger").ok());
  EXPECT_EQ(qemu.wait(), EXIT_FAILURE);
  EXPECT_THAT(qemu.errors(), HasSubstr("refused memory backend 'ram0': the source's pages are"));
}

TEST_P(QemuObjectTest, NamesTheRemedyWhenUserfaultfdIsNotPermitted) {
  // Where any user can run it.
  std::filesystem::permissions(directory_.path(), std::filesystem::perms{0755});
  std::filesystem::copy(qemu_, directory_ / "qemu");
  PreloadedCommand command = incoming_qemu();
  command.arguments[0] = directory_ / "qemu";
  constexpr uid_t kNobody = 65534;
  command.user = kNobody;
  auto qemu = PreloadedProcess::start(command).value();
  EXPECT_EQ(qemu.wait(), EXIT_FAILURE);
  EXPECT_THAT(qemu.errors(), HasSubstr("cannot open a userfaultfd"));
  EXPECT_THAT(qemu.errors(), HasSubstr("/dev/userfaultfd"));
  EXPECT_THAT(qemu.errors(), HasSubstr("vm.unprivileged_userfaultfd"));
  EXPECT_THAT(qemu.errors(), HasSubstr("CAP_SYS_PTRACE"));
}

std::string test_name(const testing::TestParamInfo<const char*>& info) {
  std::string name = std::string("Qemu") + info.param;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Version, QemuObjectTest, testing::Values("7.2", "10.0"), test_name);

}  // namespace
}  // namespace vmhop::test

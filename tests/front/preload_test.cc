// The preload library in a process that treats its RAM as QEMU does (qemu_like.c).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "qemu-memory-backend/front_control.h"
#include "qemu-memory-backend/front_listener.h"
#include "qemu-memory-backend/front_variable.h"
#include "tests/front/preloaded_process.h"
#include "tests/front/temporary_directory.h"

namespace vmhop::test {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr uint64_t kSize = 1 << 20;
constexpr uint64_t kPage = 4096;

std::string error_answer(int cause) {
  return "error " + std::to_string(cause);
}

uint64_t value_of(const std::string& answer) {
  return answer.starts_with("ok ") ? std::stoull(answer.substr(3), nullptr, 16) : 0;
}

// The two-letter flags that the kernel shows for the mapping at `address`: "um" and "ui" are
// registered for missing and minor faults, "hg" and "nh" are MADV_HUGEPAGE and MADV_NOHUGEPAGE.
std::string mapping_flags(pid_t pid, uint64_t address) {
  std::ifstream smaps("/proc/" + std::to_string(pid) + "/smaps");
  std::ostringstream start;
  start << std::hex << address << '-';
  std::string line;
  while (std::getline(smaps, line) && !line.starts_with(start.str())) {
  }
  while (std::getline(smaps, line)) {
    if (line.starts_with("VmFlags:")) return line.substr(8) + " ";
  }
  return "no such mapping";
}

class PreloadTest : public testing::Test {
 protected:
  PreloadedCommand qemu_like(std::string variable) const {
    return {.arguments = {VMHOP_QEMU_LIKE},
            .front_variable = std::move(variable),
            .inherited = {control_.fd().get(), ram_.get()},
            .user = {}};
  }
  PreloadedCommand lazy() const {
    return qemu_like(lazy_front_variable(control_.fd().get(), files_, listener_.path()).value());
  }
  PreloadedCommand exporting() const {
    return qemu_like(export_front_variable(control_.fd().get(), files_).value());
  }
  std::string map_command() const { return "map /proc/self/fd/" + std::to_string(ram_.get()); }

  // Lets `process` map its RAM and accepts the region.
  FrontRegion map_lazily(PreloadedProcess& process) {
    process.send(map_command());
    auto offer = listener_.receive(seconds(20));
    if (!offer) {
      ADD_FAILURE() << offer.error().message() << "; " << process.errors();
      return {};
    }
    EXPECT_TRUE(offer->accept().ok());
    EXPECT_EQ(value_of(process.receive()), offer->region.address);
    return std::move(offer->region);
  }

  TemporaryDirectory directory_;
  FrontControl control_ = FrontControl::create().value();
  FrontListener listener_ = FrontListener::listen(directory_ / "front; x=y").value();
  UniqueFd ram_ = create_memfd("ram0", kSize).value();
  std::array<FrontRamFile, 1> files_{{{ram_.get(), "ram0"}}};
};

TEST_F(PreloadTest, DeliversAFaultAndResumesItWhenThePageIsFilled) {
  auto process = PreloadedProcess::start(lazy()).value();
  FrontRegion region = map_lazily(process);
  EXPECT_EQ(region.id, "ram0");
  EXPECT_EQ(region.size, kSize);
  EXPECT_EQ(region.pid, process.pid());

  constexpr uint64_t kOffset = 5 * kPage;
  process.send("read " + std::to_string(kOffset + 7));
  ASSERT_EQ(wait_fd(region.userfaultfd.get(), POLLIN, 20'000).value(), POLLIN);
  uffd_msg fault{};
  ASSERT_EQ(::read(region.userfaultfd.get(), &fault, sizeof fault), ssize_t{sizeof fault});
  EXPECT_EQ(fault.event, UFFD_EVENT_PAGEFAULT);
  EXPECT_EQ(fault.arg.pagefault.address & ~(kPage - 1), region.address + kOffset);

  auto alias = Mapping::map_shared(region.memfd.get(), kSize, Access::kReadWrite).value();
  alias.data()[kOffset + 7] = std::byte{0x5a};
  uffdio_continue resume{.range = {region.address + kOffset, kPage}, .mode = 0, .mapped = 0};
  ASSERT_EQ(::ioctl(region.userfaultfd.get(), UFFDIO_CONTINUE, &resume), 0);
  EXPECT_EQ(process.receive(), "ok 0x5a");
}

TEST_F(PreloadTest, RegistersTheRamAndNoOtherMapping) {
  auto process = PreloadedProcess::start(lazy()).value();
  uint64_t other = value_of(process.ask("map-own 65536"));
  EXPECT_EQ(process.ask("punch 0 4096"), "ok 0");
  EXPECT_EQ(process.ask("advise " + std::to_string(MADV_HUGEPAGE)), "ok 0");
  FrontRegion region = map_lazily(process);

  std::string ram_flags = mapping_flags(process.pid(), region.address);
  EXPECT_THAT(ram_flags, HasSubstr(" um "));
  EXPECT_THAT(ram_flags, HasSubstr(" ui "));
  EXPECT_THAT(ram_flags, HasSubstr(" nh "));
  std::string other_flags = mapping_flags(process.pid(), other);
  EXPECT_THAT(other_flags, Not(HasSubstr(" um ")));
  EXPECT_THAT(other_flags, HasSubstr(" hg "));
}

TEST_F(PreloadTest, KeepsHugePagesOffLazyRam) {
  auto process = PreloadedProcess::start(lazy()).value();
  FrontRegion region = map_lazily(process);
  EXPECT_EQ(process.ask("advise " + std::to_string(MADV_HUGEPAGE)), "ok 0");
  EXPECT_THAT(mapping_flags(process.pid(), region.address), HasSubstr(" nh "));
}

TEST_F(PreloadTest, LeavesHugePagesOfExportedRamToQemu) {
  auto process = PreloadedProcess::start(exporting()).value();
  uint64_t address = value_of(process.ask(map_command()));
  EXPECT_EQ(process.ask("advise " + std::to_string(MADV_HUGEPAGE)), "ok 0");
  std::string flags = mapping_flags(process.pid(), address);
  EXPECT_THAT(flags, HasSubstr(" hg "));
  EXPECT_THAT(flags, Not(HasSubstr(" um ")));
}

TEST_F(PreloadTest, HandsOverHugePagesWithTheirPageSize) {
  constexpr uint32_t kHugePage = 2 << 20;
  ram_.reset(::memfd_create("ram0", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB));
  ASSERT_TRUE(ram_.valid());
  ASSERT_EQ(::ftruncate(ram_.get(), 4 * kHugePage), 0);
  files_[0].fd = ram_.get();
  auto process = PreloadedProcess::start(lazy()).value();
  FrontRegion region = map_lazily(process);
  EXPECT_EQ(region.page_size, kHugePage);
  EXPECT_EQ(region.size, 4 * kHugePage);
  std::string flags = mapping_flags(process.pid(), region.address);
  EXPECT_THAT(flags, HasSubstr(" um "));
  EXPECT_THAT(flags, HasSubstr(" ui "));
}

TEST_F(PreloadTest, KeepsAReferenceToTheUserfaultfdWhenVmhopLosesItsOwn) {
  auto process = PreloadedProcess::start(lazy()).value();
  uint64_t address = 0;
  {
    FrontRegion region = map_lazily(process);
    address = region.address;
  }
  EXPECT_THAT(mapping_flags(process.pid(), address), HasSubstr(" um "));
}

TEST_F(PreloadTest, TakesAnythingMappedWhereRamWasForSomethingElse) {
  auto process = PreloadedProcess::start(exporting()).value();
  ASSERT_THAT(process.ask(map_command()), StartsWith("ok"));
  ASSERT_TRUE(control_.block_discards(seconds(1)).ok());
  EXPECT_EQ(process.ask("remove 0 4096"), error_answer(EBUSY));
  EXPECT_EQ(process.ask("unmap"), "ok 0");
  // Nothing is mapped there now; the kernel says so, not the library.
  EXPECT_EQ(process.ask("remove 0 4096"), error_answer(ENOMEM));
}

TEST_F(PreloadTest, RefusesPunchesWhileBlockedAndAllowsThemAgain) {
  auto process = PreloadedProcess::start(exporting()).value();
  ASSERT_THAT(process.ask(map_command()), StartsWith("ok"));
  EXPECT_EQ(process.ask("write 0 1"), "ok 0");
  EXPECT_EQ(process.ask("punch 0 4096"), "ok 0");
  EXPECT_EQ(process.ask("read 0"), "ok 0");
  EXPECT_EQ(process.ask("remove 4096 4096"), "ok 0");
  EXPECT_EQ(control_.punches(), 2U);

  ASSERT_TRUE(control_.block_discards(seconds(20)).ok());
  EXPECT_EQ(process.ask("write 0 2"), "ok 0");
  EXPECT_EQ(process.ask("punch 0 4096"), error_answer(EBUSY));
  EXPECT_EQ(process.ask("remove 0 4096"), error_answer(EBUSY));
  EXPECT_EQ(process.ask("read 0"), "ok 0x2");
  EXPECT_EQ(control_.refused(), 2U);
  EXPECT_EQ(control_.punches(), 2U);

  control_.allow_discards();
  EXPECT_EQ(process.ask("punch 0 4096"), "ok 0");
  EXPECT_EQ(process.ask("read 0"), "ok 0");
}

TEST_F(PreloadTest, BlocksPunchesOfLazyRamFromTheStart) {
  auto process = PreloadedProcess::start(lazy()).value();
  FrontRegion region = map_lazily(process);
  EXPECT_TRUE(control_.discards_blocked());
  EXPECT_EQ(process.ask("punch 0 4096"), error_answer(EBUSY));
}

TEST_F(PreloadTest, PassesTheDroppingOfPageTableEntries) {
  auto process = PreloadedProcess::start(exporting()).value();
  ASSERT_THAT(process.ask(map_command()), StartsWith("ok"));
  ASSERT_TRUE(control_.block_discards(seconds(20)).ok());
  EXPECT_EQ(process.ask("write 0 3"), "ok 0");
  EXPECT_EQ(process.ask("advise " + std::to_string(MADV_DONTNEED)), "ok 0");
  EXPECT_EQ(process.ask("read 0"), "ok 0x3");
}

TEST_F(PreloadTest, RefusesWhatWouldShowZerosWherePagesAreMissing) {
  auto process = PreloadedProcess::start(lazy()).value();
  FrontRegion region = map_lazily(process);
  EXPECT_EQ(process.ask("map-again"), error_answer(EBUSY));
  EXPECT_EQ(process.ask("remap 4096 4096"), error_answer(EBUSY));
  EXPECT_EQ(process.ask("advise " + std::to_string(MADV_POPULATE_WRITE)), error_answer(EBUSY));
  EXPECT_EQ(process.ask("mlockall"), error_answer(EBUSY));
  EXPECT_EQ(process.wait(), 0);
  EXPECT_THAT(process.errors(), HasSubstr("Leave out prealloc"));
  EXPECT_THAT(process.errors(), HasSubstr("Leave out mem-lock=on"));
}

TEST_F(PreloadTest, AllowsItOnceNothingIsMissing) {
  auto process = PreloadedProcess::start(lazy()).value();
  FrontRegion region = map_lazily(process);
  uffdio_range all{.start = region.address, .len = region.size};
  ASSERT_EQ(::ioctl(region.userfaultfd.get(), UFFDIO_UNREGISTER, &all), 0);
  control_.allow_discards();
  EXPECT_THAT(process.ask("map-again"), StartsWith("ok"));
  EXPECT_THAT(process.ask("remap 4096 4096"), StartsWith("ok"));
  EXPECT_EQ(process.ask("advise " + std::to_string(MADV_POPULATE_WRITE)), "ok 0");
}

TEST_F(PreloadTest, FailsTheMappingWhenVmhopRefusesIt) {
  auto process = PreloadedProcess::start(lazy()).value();
  process.send(map_command());
  auto offer = listener_.receive(seconds(20));
  ASSERT_TRUE(offer.ok()) << offer.error().message();
  ASSERT_TRUE(offer->refuse("the VM has no region ram0").ok());
  EXPECT_EQ(process.receive(), error_answer(ECONNREFUSED));
  EXPECT_EQ(process.wait(), 0);
  EXPECT_THAT(process.errors(), HasSubstr("vmhop refused it: the VM has no region ram0"));
}

TEST_F(PreloadTest, FailsTheMappingWhenVmhopDoesNotAnswer) {
  auto process = PreloadedProcess::start(lazy()).value();
  process.send(map_command());
  ASSERT_TRUE(listener_.receive(seconds(20)).ok());  // and drops the offer
  EXPECT_EQ(process.receive(), error_answer(ECONNRESET));
}

TEST_F(PreloadTest, FailsTheMappingWhenNobodyListens) {
  PreloadedCommand command = lazy();
  { FrontListener gone = std::move(listener_); }
  auto process = PreloadedProcess::start(command).value();
  EXPECT_EQ(process.ask(map_command()), error_answer(ENOENT));
  EXPECT_EQ(process.wait(), 0);
  EXPECT_THAT(process.errors(), HasSubstr("RAM ram0: nobody serves its faults"));
}

TEST_F(PreloadTest, NamesTheRemedyWhenUserfaultfdIsNotPermitted) {
  std::string permitted = read_file("/proc/sys/vm/unprivileged_userfaultfd", 16).value();
  ASSERT_EQ(permitted, "0\n") << "sysctl vm.unprivileged_userfaultfd must be 0 for this test";
  // Where any user can run them.
  std::filesystem::permissions(directory_.path(), std::filesystem::perms{0755});
  std::filesystem::copy(VMHOP_QEMU_LIKE, directory_ / "qemu_like");
  std::filesystem::copy(VMHOP_PRELOAD_LIBRARY, directory_ / "preload.so");
  PreloadedCommand command = lazy();
  command.arguments = {directory_ / "qemu_like"};
  command.preload = directory_ / "preload.so";
  constexpr uid_t kNobody = 65534;
  command.user = kNobody;

  auto process = PreloadedProcess::start(command).value();
  EXPECT_EQ(process.ask(map_command()), error_answer(EPERM));
  EXPECT_EQ(process.wait(), 0);
  EXPECT_THAT(process.errors(), HasSubstr("/dev/userfaultfd"));
  EXPECT_THAT(process.errors(), HasSubstr("vm.unprivileged_userfaultfd=1"));
  EXPECT_THAT(process.errors(), HasSubstr("CAP_SYS_PTRACE"));
}

// All lines until the answer.
std::vector<std::string> run_child(PreloadedProcess& process, const std::string& command) {
  std::vector<std::string> lines;
  process.send("run " + command);
  for (;;) {
    std::string line = process.receive();
    if (line.empty() || line.starts_with("ok ")) return lines;
    lines.push_back(line);
  }
}

TEST_F(PreloadTest, LetsChildrenInheritNothing) {
  auto process = PreloadedProcess::start(lazy()).value();
  FrontRegion region = map_lazily(process);
  auto environment = run_child(process, "env");
  EXPECT_THAT(environment, testing::Contains(StartsWith("PATH=")));
  EXPECT_THAT(environment, Not(testing::Contains(StartsWith("LD_PRELOAD"))));
  EXPECT_THAT(environment, Not(testing::Contains(StartsWith("VMHOP_FRONT"))));
  auto descriptors = run_child(process, "ls -l /proc/self/fd");
  EXPECT_THAT(descriptors, testing::Contains(HasSubstr(" 1 -> pipe:")));
  EXPECT_THAT(descriptors, Not(testing::Contains(HasSubstr("memfd:ram0"))));
  EXPECT_THAT(descriptors, Not(testing::Contains(HasSubstr("memfd:vmhop"))));
  EXPECT_THAT(descriptors, Not(testing::Contains(HasSubstr("userfaultfd"))));
}

TEST_F(PreloadTest, LeavesOtherPreloadedLibrariesToTheChildren) {
  PreloadedCommand command = exporting();
  command.preload = "libdl.so.2 " + command.preload + ":libpthread.so.0";
  auto process = PreloadedProcess::start(command).value();
  EXPECT_THAT(run_child(process, "env"),
              testing::Contains("LD_PRELOAD=libdl.so.2:libpthread.so.0"));
}

TEST_F(PreloadTest, DoesNothingWithoutItsVariable) {
  auto process = PreloadedProcess::start(qemu_like("")).value();
  uint64_t address = value_of(process.ask(map_command()));
  EXPECT_THAT(mapping_flags(process.pid(), address), Not(HasSubstr(" um ")));
  ASSERT_TRUE(control_.block_discards(seconds(1)).ok());
  EXPECT_EQ(process.ask("punch 0 4096"), "ok 0");
  EXPECT_EQ(process.ask("advise " + std::to_string(MADV_POPULATE_WRITE)), "ok 0");
  EXPECT_EQ(control_.punches(), 0U);
}

TEST_F(PreloadTest, RefusesToStartOnAVariableItDoesNotUnderstand) {
  std::string control = std::to_string(control_.fd().get());
  std::string ram = std::to_string(ram_.get());
  const std::vector<std::pair<std::string, std::string>> cases{
      {"v=2;mode=export;control=" + control + ";ram=" + ram + ":ram0", "begins with 'v=2'"},
      {"mode=export;v=1;control=" + control + ";ram=" + ram + ":ram0", "begins with 'mode=export'"},
      {"v=1;mode=other;control=" + control + ";ram=" + ram + ":ram0", "unknown mode 'other'"},
      {"v=1;mode=export;control=999;ram=" + ram + ":ram0", "is not the control page"},
      {"v=1;mode=export;control=x;ram=" + ram + ":ram0", "'x' is not a descriptor"},
      {"v=1;mode=export;control=" + control + ";ram=999:ram0", "descriptor 999"},
      {"v=1;mode=export;control=" + control + ";ram=" + ram, "is not FD:ID"},
      {"v=1;mode=export;control=" + control + ";ram=" + ram + ":9", "is not FD:ID"},
      {"v=1;mode=export;control=" + control + ";ram=0:ram0", "not a memory file"},
      {"v=1;mode=export;control=" + control, "lacks"},
      {"v=1;mode=lazy;control=" + control + ";ram=" + ram + ":ram0", "lacks"},
      {"v=1;mode=lazy;control=" + control + ";ram=" + ram + ":ram0;socket=x", "absolute path"},
      {"v=1;mode=export;mode=lazy;control=" + control + ";ram=" + ram + ":ram0", "there twice"},
      {"v=1;colour=red;mode=export;control=" + control + ";ram=" + ram + ":ram0", "'colour'"},
  };
  for (const auto& [variable, why] : cases) {
    SCOPED_TRACE(variable);
    auto process = PreloadedProcess::start(qemu_like(variable)).value();
    EXPECT_EQ(process.wait(), EXIT_FAILURE);
    EXPECT_THAT(process.errors(), HasSubstr(why));
  }
}

}  // namespace
}  // namespace vmhop::test

// What the processes that talk to the network may still do, and what a core dump of them would
// have.
#include <charconv>

#include "backend/session/key.h"
#include "tests/base/core_search.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using testing_support::find_in_core;
using testing_support::mapped_ranges;
using testing_support::MappedRange;

class Helpers : public HopTest {
 protected:
  // Both helpers at work: the VM runs at the destination and most of its memory is at the source.
  void SetUp() override {
    HopTest::SetUp();
    ASSERT_OK(boot());
    ASSERT_OK(await());
    ASSERT_OK(slow_down());
    ASSERT_VALUE(relocating_, start_relocation());
    ASSERT_OK(wait_for_state(*destination_, "arriving"));
  }

  // The one process at that host whose command line has `command`; -1 if there is none.
  pid_t pid_of(const std::string& host, const std::string& command) {
    for (pid_t pid : processes_in({network_->host(host).fd()})) {
      auto line = read_file(fmt::format("/proc/{}/cmdline", pid), 1 << 16);
      if (line && line->find(command) != std::string::npos) return pid;
    }
    return -1;
  }
  std::string status_of(const std::string& host, const std::string& command) {
    auto status = read_file(fmt::format("/proc/{}/status", pid_of(host, command)), 1 << 16);
    return status ? *status : status.error().message();
  }
};

uint64_t field(const std::string& status, const std::string& name, int base) {
  size_t at = status.find("\n" + name + ":\t");
  uint64_t value = ~uint64_t{0};
  if (at == std::string::npos) return value;
  const char* begin = status.data() + at + name.size() + 3;
  (void)std::from_chars(begin, status.data() + status.size(), value, base);
  return value;
}

// CAP_IPC_LOCK and CAP_SYS_NICE, where this root may not raise the limits that replace them.
constexpr uint64_t kMayStay = uint64_t{1} << 14 | uint64_t{1} << 23;

void expect_confined(const std::string& status) {
  EXPECT_EQ(field(status, "Seccomp", 10), 2U) << status;
  EXPECT_EQ(field(status, "NoNewPrivs", 10), 1U) << status;
  for (const char* set : {"CapEff", "CapPrm"})
    EXPECT_EQ(field(status, set, 16) & ~kMayStay, 0U) << status;
  EXPECT_EQ(field(status, "CapInh", 16) | field(status, "CapAmb", 16), 0U) << status;
}

TEST_F(Helpers, HaveGivenUpWhatTheyDoNotNeed) {
  expect_confined(status_of("destination", "internal-pager"));
  expect_confined(status_of("source", "internal-exporter"));
}

TEST_F(Helpers, WouldLeaveTheGuestsMemoryOutOfACore) {
  for (pid_t pid :
       {pid_of("destination", "internal-pager"), pid_of("source", "internal-exporter")}) {
    int mappings = 0;
    for (const MappedRange& range : mapped_ranges(pid)) {
      if (range.end - range.begin != uint64_t{guest_.ram_mib} << 20) continue;
      EXPECT_TRUE(range.has("dd")) << range.header << range.flags;
      ++mappings;
    }
    EXPECT_EQ(mappings, 1);
  }
}

// Supervisors and QEMUs included, and `vmhop relocate`, which read the key from its file.
TEST_F(Helpers, AndAllOthersWouldLeaveTheKeyOutOfACoreAndShowItNowhere) {
  Secret key = load_key(source_->key()).value();
  std::string hex = key.to_hex();
  std::string raw(reinterpret_cast<const char*>(key.bytes().data()), Secret::kSize);
  int vmhops = 0;
  for (const char* host : {"source", "destination"}) {
    for (pid_t pid : processes_in({network_->host(host).fd()})) {
      auto command = read_file(fmt::format("/proc/{}/cmdline", pid), 1 << 16);
      if (!command) continue;  // it has just ended
      vmhops += command->find("vmhop") != std::string::npos ? 1 : 0;
      EXPECT_EQ(command->find(hex), std::string::npos);
      EXPECT_EQ(find_in_core(pid, raw), "") << command->c_str();
      EXPECT_EQ(find_in_core(pid, hex), "") << command->c_str();
    }
  }
  EXPECT_GE(vmhops, 5) << "two supervisors, pager, exporter, relocate";
  for (Process* process : {&*running_, &*receiving_, &*relocating_})
    EXPECT_EQ((process->out() + process->err()).find(hex), std::string::npos);
}

}  // namespace
}  // namespace vmhop::lab

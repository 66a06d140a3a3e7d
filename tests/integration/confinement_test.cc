// What the processes that talk to the network may still do, and what a core dump of them would
// have.
#include <charconv>
#include <sstream>

#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

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

  // A file of the one process at that host whose command line has `command`.
  Result<std::string> proc_file(const std::string& host, const std::string& command,
                                const std::string& name) {
    for (pid_t pid : processes_in({network_->host(host).fd()})) {
      auto line = read_file(fmt::format("/proc/{}/cmdline", pid), 4096);
      if (!line || line->find(command) == std::string::npos) continue;
      return read_file(fmt::format("/proc/{}/{}", pid, name), 1 << 22);
    }
    return errorf("there is no {} at the {}", command, host);
  }

  std::optional<Process> relocating_;
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

// How many of the mappings in a /proc/PID/smaps are of a guest's memory; each must be left out of
// core dumps.
int guest_mappings(const std::string& smaps, uint64_t least_kib) {
  int count = 0;
  bool of_guest = false;
  std::string header;
  std::istringstream lines(smaps);
  for (std::string line; std::getline(lines, line);) {
    uint64_t kib = 0;
    if (line.starts_with("VmFlags:") && of_guest) {
      EXPECT_NE(line.find(" dd"), std::string::npos) << header << line;
      ++count;
    } else if (line.starts_with("Size:")) {
      (void)std::from_chars(line.data() + line.find_first_of("0123456789"),
                            line.data() + line.size(), kib);
      of_guest = kib >= least_kib && header.find('/') != std::string::npos;
    } else if (line.find('-') < line.find(' ')) {
      header = line;
    }
  }
  return count;
}

TEST_F(Helpers, HaveGivenUpWhatTheyDoNotNeed) {
  ASSERT_VALUE(std::string pager, proc_file("destination", "internal-pager", "status"));
  expect_confined(pager);
  ASSERT_VALUE(std::string exporter, proc_file("source", "internal-exporter", "status"));
  expect_confined(exporter);
}

TEST_F(Helpers, WouldLeaveTheGuestsMemoryOutOfACore) {
  uint64_t ram_kib = uint64_t{guest_.ram_mib} << 10;
  ASSERT_VALUE(std::string pager, proc_file("destination", "internal-pager", "smaps"));
  EXPECT_EQ(guest_mappings(pager, ram_kib), 1);
  ASSERT_VALUE(std::string exporter, proc_file("source", "internal-exporter", "smaps"));
  EXPECT_EQ(guest_mappings(exporter, ram_kib), 1);
}

}  // namespace
}  // namespace vmhop::lab

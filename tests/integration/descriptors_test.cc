// Processes that have run out of descriptors: the VM stays where it is, and says why.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>

#include "backend/base/control_channel.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr auto kPatience = 60s;

// The process, and those that it starts from now on, may open so many more.
Result<rlimit> leave_descriptors(pid_t process, rlim_t spare) {
  rlim_t highest = 0;
  std::error_code failure;
  std::string directory = fmt::format("/proc/{}/fd", process);
  for (const auto& entry : std::filesystem::directory_iterator(directory, failure))
    highest = std::max<rlim_t>(highest, std::stoul(entry.path().filename().string()));
  if (failure) return Error(directory + ": " + failure.message());
  rlimit before{};
  if (::prlimit(process, RLIMIT_NOFILE, nullptr, &before) != 0) {
    return Error::from_errno("prlimit", errno);
  }
  rlimit limit{highest + 1 + spare, before.rlim_max};
  if (::prlimit(process, RLIMIT_NOFILE, &limit, nullptr) != 0) {
    return Error::from_errno("prlimit", errno);
  }
  return before;
}

class OutOfDescriptors : public HopTest, public testing::WithParamInterface<rlim_t> {
 protected:
  // The pager of the destination, once it can say so itself.
  Result<pid_t> pager_that_listens() const {
    std::string directory = destination_->runtime_directory() + "/" + kVm;
    for (auto deadline = within(kPatience); Clock::now() < deadline;) {
      auto record = read_vm_record(directory);
      auto channel = ControlChannel::connect(directory + "/pager.sock");
      if (record && record->pager.pid > 0 && channel && channel->send({{"cmd", "status"}}) &&
          channel->receive(5000)) {
        return record->pager.pid;
      }
      std::this_thread::sleep_for(10ms);
    }
    return Error("no pager serves the destination");
  }
};

// The supervisor, and the exporter that it starts.
TEST_P(OutOfDescriptors, TheSourceKeepsItsVm) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(rlimit before, leave_descriptors(running_->pid(), GetParam()));
  ASSERT_VALUE(Finished finished, relocate());
  if (finished.status.clean()) {
    EXPECT_OK(runs_at_destination());
    return;
  }
  EXPECT_THAT(finished.err, HasSubstr("Too many open files"));
  ASSERT_OK(runs_on_at_source());
  ASSERT_EQ(::prlimit(running_->pid(), RLIMIT_NOFILE, &before, nullptr), 0);
  EXPECT_OK(relocates_well());
}

// The pager, which serves the network.
TEST_P(OutOfDescriptors, TheDestinationLosesNothing) {
  ASSERT_OK(boot());
  ASSERT_OK(await());
  ASSERT_VALUE(pid_t pager, pager_that_listens());
  ASSERT_VALUE(rlimit before, leave_descriptors(pager, GetParam()));
  ASSERT_VALUE(Finished finished, relocate({"--prepare-timeout", "5"}));
  if (finished.status.clean()) {
    EXPECT_OK(runs_at_destination());
    return;
  }
  ASSERT_OK(runs_on_at_source());
  // What waits there is the same pager if no source was ever welcome, and the next one otherwise.
  if (::prlimit(pager, RLIMIT_NOFILE, &before, nullptr) != 0) ASSERT_OK(await_again());
  EXPECT_OK(relocates_well());
}

INSTANTIATE_TEST_SUITE_P(WithSoManyLeft, OutOfDescriptors, testing::Values(0, 3),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace vmhop::lab

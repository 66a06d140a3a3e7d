#include "backend/base/thread_role.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>

namespace vmhop {
namespace {

struct Capabilities {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};

  Capabilities() { EXPECT_EQ(::syscall(SYS_capget, &header, data.data()), 0); }
  bool has_nice() const { return (data[0].effective & 1U << CAP_SYS_NICE) != 0; }
  void drop_nice() {
    data[0].effective &= ~(1U << CAP_SYS_NICE);
    EXPECT_EQ(::syscall(SYS_capset, &header, data.data()), 0);
  }
};

struct Seen {
  std::string name;
  int policy = -1;
  int nice = 0;
};

enum class Permitted { kWhatTheTestIs, kNothing };

Seen seen_in_thread(ThreadRole role, Permitted permitted) {
  Seen seen;
  std::thread([&] {
    if (permitted == Permitted::kNothing) Capabilities().drop_nice();
    begin_thread("vmhop-role", role);
    std::array<char, 16> name{};
    ::pthread_getname_np(::pthread_self(), name.data(), name.size());
    seen = {name.data(), ::sched_getscheduler(0) & ~SCHED_RESET_ON_FORK,
            ::getpriority(PRIO_PROCESS, 0)};
  }).join();
  return seen;
}

TEST(ThreadRole, LetsFaultsGoFirstWhereThatIsPermitted) {
  if (!Capabilities().has_nice()) GTEST_SKIP() << "this test has no CAP_SYS_NICE";
  Seen seen = seen_in_thread(ThreadRole::kFault, Permitted::kWhatTheTestIs);
  EXPECT_EQ(seen.name, "vmhop-role");
  EXPECT_EQ(seen.policy, SCHED_OTHER);
  EXPECT_EQ(seen.nice, -10);
}

TEST(ThreadRole, LetsTheSwitchGoFirstToo) {
  if (!Capabilities().has_nice()) GTEST_SKIP() << "this test has no CAP_SYS_NICE";
  EXPECT_EQ(seen_in_thread(ThreadRole::kSwitch, Permitted::kWhatTheTestIs).nice, -10);
}

// QEMU, for one.
TEST(ThreadRole, IsNotHandedDownToWhatAThreadStarts) {
  if (!Capabilities().has_nice()) GTEST_SKIP() << "this test has no CAP_SYS_NICE";
  int nice = -1;
  std::thread([&nice] {
    begin_thread("vmhop-role", ThreadRole::kSwitch);
    std::thread([&nice] { nice = ::getpriority(PRIO_PROCESS, 0); }).join();
  }).join();
  EXPECT_EQ(nice, 0);
}

TEST(ThreadRole, LeavesFaultsAsTheyAreWhereNothingIsPermitted) {
  Seen seen = seen_in_thread(ThreadRole::kFault, Permitted::kNothing);
  EXPECT_EQ(seen.name, "vmhop-role");
  EXPECT_EQ(seen.policy, SCHED_OTHER);
  EXPECT_EQ(seen.nice, 0);
}

TEST(ThreadRole, NeedsNoPermissionToLetBulkWorkWait) {
  Seen seen = seen_in_thread(ThreadRole::kBulk, Permitted::kNothing);
  EXPECT_EQ(seen.policy, SCHED_BATCH);
  EXPECT_EQ(seen.nice, 5);
}

}  // namespace
}  // namespace vmhop

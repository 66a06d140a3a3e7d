#include "backend/base/thread_role.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace vmhop {
namespace {

constexpr int32_t kUrgentNice = -10;
constexpr int32_t kBulkNice = 5;
constexpr uint64_t kUrgentSliceNs = 100'000;  // the shortest there is
constexpr uint64_t kResetOnFork = 1;          // SCHED_FLAG_RESET_ON_FORK

// The kernel's struct sched_attr (sched_setattr(2)), which glibc has not had before 2.41.
struct SchedulingAttributes {
  uint32_t size = sizeof(SchedulingAttributes);
  uint32_t policy = SCHED_OTHER;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime_ns = 0;  // of SCHED_OTHER: the time slice
  uint64_t deadline_ns = 0;
  uint64_t period_ns = 0;
};
static_assert(sizeof(SchedulingAttributes) == 48);

bool set_scheduling(SchedulingAttributes attributes) {
  return ::syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

}  // namespace

void begin_thread(const char* name, ThreadRole role) {
  ::pthread_setname_np(::pthread_self(), name);
  SchedulingAttributes wanted;
  switch (role) {
    case ThreadRole::kFault:
    case ThreadRole::kSwitch:
      wanted.flags = kResetOnFork;
      wanted.nice = kUrgentNice;
      wanted.runtime_ns = kUrgentSliceNs;
      if (set_scheduling(wanted)) return;
      wanted = {};
      break;
    case ThreadRole::kBulk:
      wanted.nice = kBulkNice;
      wanted.policy = SCHED_BATCH;
      break;
  }
  (void)set_scheduling(wanted);
}

}  // namespace vmhop

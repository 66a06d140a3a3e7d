// A process that does some work, and then can be looked at.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>

#include "backend/base/fd.h"

namespace vmhop::testing_support {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// A copy of this one that waits for its end after `work`.
class WorkingProcess {
 public:
  explicit WorkingProcess(const std::function<void()>& work) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) {
      work();
      (void)!::write(write_end.get(), "", 1);
      for (;;)
        ::pause();
    }
    EXPECT_GT(wait_fd(read_end.get(), POLLIN, 20'000).value(), 0);
  }
  WorkingProcess(const WorkingProcess&) = delete;
  WorkingProcess& operator=(const WorkingProcess&) = delete;
  ~WorkingProcess() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

}  // namespace vmhop::testing_support

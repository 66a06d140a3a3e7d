// Lines with the time at which they arrived; written by one thread, waited for by others.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "tests/lab/clock.h"

namespace vmhop::lab {

struct Line {
  Clock::time_point at;
  unsigned stream = 0;  // which of several sources it came from
  std::string text;
};

class LineLog {
 public:
  using Wanted = std::function<bool(const Line&)>;

  void append(Line line);
  size_t size() const;
  // Those from number `first` on.
  std::vector<Line> lines(size_t first = 0) const;
  // The first line from number `first` on that is wanted. kTimedOut with the last lines otherwise.
  Result<Line> wait_for(const Wanted& wanted, Deadline deadline, size_t first = 0) const;

 private:
  mutable std::mutex mutex_;  // guards lines_
  mutable std::condition_variable appended_;
  std::vector<Line> lines_;
};

}  // namespace vmhop::lab

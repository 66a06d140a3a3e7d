#include "tests/lab/line_log.h"

#include <algorithm>

namespace vmhop::lab {

void LineLog::append(Line line) {
  {
    std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
  }
  appended_.notify_all();
}

size_t LineLog::size() const {
  std::lock_guard lock(mutex_);
  return lines_.size();
}

std::vector<Line> LineLog::lines(size_t first) const {
  std::lock_guard lock(mutex_);
  auto from = lines_.begin() + static_cast<ptrdiff_t>(std::min(first, lines_.size()));
  return {from, lines_.end()};
}

Result<Line> LineLog::wait_for(const Wanted& wanted, Deadline deadline, size_t first) const {
  std::unique_lock lock(mutex_);
  for (size_t next = first;; ++next) {
    if (!appended_.wait_until(lock, deadline, [&] { return lines_.size() > next; })) {
      std::string tail;
      for (size_t n = lines_.size() - std::min<size_t>(lines_.size(), 8); n < lines_.size(); ++n)
        tail += "\n  " + lines_[n].text;
      return Error("the expected line did not come; the last ones:" + tail, ErrorKind::kTimedOut);
    }
    if (wanted(lines_[next])) return lines_[next];
  }
}

}  // namespace vmhop::lab

#include "bench/series.h"

namespace vmhop::bench {

Series in_steps(const RateBetween& rate, const Span& span, lab::Clock::duration step) {
  Series series;
  series.step_s = std::chrono::duration<double>(step).count();
  // Integer division goes towards 0, and most of what is before 0 is wanted.
  auto before = span.zero - span.from;
  series.first = -static_cast<long>(before / step);
  if (before < lab::Clock::duration::zero() && before % step != lab::Clock::duration::zero()) {
    ++series.first;
  }
  for (auto at = span.zero + series.first * step; at + step <= span.to; at += step)
    series.values.push_back(rate(at, at + step));
  return series;
}

}  // namespace vmhop::bench

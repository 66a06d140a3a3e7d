#include "backend/read_window.h"

#include <algorithm>
#include <bit>

namespace vmhop {
namespace {

double seconds(ReadWindow::Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

// Four in flight, so that one is on the wire while another is taken in.
uint64_t ReadWindow::read_length() const {
  return std::clamp(std::bit_floor(bytes_ / 4), kShortestRead, kLongestRead);
}

double ReadWindow::standing(Clock::time_point now) const {
  double age = std::min(1.0, seconds(now - first_) / seconds(kGrown));
  return seconds(kFirstStanding) + age * seconds(kStanding - kFirstStanding);
}

void ReadWindow::arrived(const Posted& read, uint64_t length, uint64_t data,
                         Clock::time_point now) {
  delivered_ += data;
  double took = seconds(now - read.at);
  if (took <= 0) return;
  if (first_ == Clock::time_point{}) first_ = now;
  if (now - remembered_since_ > kMemory) {
    rate_before_ = rate_now_;
    rate_now_ = 0;
    remembered_since_ = now;
  }
  rate_now_ = std::max(rate_now_, static_cast<double>(delivered_ - read.delivered) / took);
  shortest_ = shortest_ == 0 ? took : std::min(shortest_, took);
  // Of a far source it is a quarter of the way, or the window would take hundreds of answers to
  // grow.
  double surplus = std::max(standing(now), shortest_ / 4);
  double wanted = std::max(rate_now_, rate_before_) * (shortest_ + surplus);
  data_share_ +=
      kShareWeight * (static_cast<double>(data) / static_cast<double>(length) - data_share_);
  wanted = std::max(wanted, static_cast<double>(kLeast)) / std::max(data_share_, kLeastShare);
  bytes_ = std::clamp(static_cast<uint64_t>(wanted), kLeast, kMost);
}

}  // namespace vmhop

// A page source that fails, stalls, splits and reorders as a test says, around any other.
//
// Everything is counted, nothing is timed: the same script does the same each time.
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "backend/base/fd.h"
#include "backend/page_source.h"
#include "tests/backend/memory_image.h"

namespace vmhop::testing_support {

// Holds the arrivals of a page source back until the test lets them go.
class Gate {
 public:
  explicit Gate(bool open) : open_(open), changed_(must(EventFd::create())) {}

  void open() { set(open_); }
  // The next poll() of the page source is an error.
  void fail() { set(failed_); }
  bool is_open() const { return open_; }
  bool has_failed() const { return failed_; }
  // How many arrivals were held so far.
  size_t held() const { return held_; }
  void count_held(size_t arrivals) { held_ += arrivals; }
  int fd() const { return changed_.fd(); }

 private:
  void set(std::atomic<bool>& what) {
    what = true;
    changed_.notify();
  }
  std::atomic<bool> open_;
  std::atomic<bool> failed_{false};
  std::atomic<size_t> held_{0};
  EventFd changed_;  // never drained: both changes are for good
};

// One page that arrives with a byte changed, so many times; shared by the page sources of a test.
class Damage {
 public:
  Damage(PageRange page, size_t times) : page_(page), left_(times) {}
  // Where `arrival` has the page, as offset into it; and once less from now on.
  std::optional<uint64_t> strike(const PageArrival& arrival) {
    const PageRange& range = arrival.range;
    bool has_it = arrival.content == Content::kData && range.region == page_.region &&
                  range.offset <= page_.offset && page_.offset < range.offset + range.length;
    if (!has_it || left_ == 0) return std::nullopt;
    --left_;
    return page_.offset - range.offset;
  }

 private:
  PageRange page_;
  std::atomic<size_t> left_;
};

struct FaultScript {
  // After so many posts the next one fails, without having been passed on.
  std::optional<size_t> posts = {};
  // After so many arrivals were handed out poll() fails.
  std::optional<size_t> arrivals = {};
  // Before that failure half of a page that arrives next is overwritten with rubbish, as if the
  // connection had ended in the middle of it.
  bool tears_page = false;
  // Arrivals are handed out one page at a time, the latest first.
  bool splits_and_reorders = false;
  std::shared_ptr<Gate> gate = {};
  std::shared_ptr<Damage> damage = {};
};

class FaultInjectingSource final : public PageSource {
 public:
  FaultInjectingSource(std::unique_ptr<PageSource> inner, FaultScript script)
      : inner_(std::move(inner)),
        script_(std::move(script)),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    watch(EPOLL_CTL_ADD, inner_->wait_fd(), inner_->wait_events());
    if (script_.gate) watch(EPOLL_CTL_ADD, script_.gate->fd(), POLLIN);
  }

  Status post(std::span<const PageRead> reads) override {
    if (!inner_ || (script_.posts && posts_ == *script_.posts)) return fail("a post");
    ++posts_;
    for (const PageRead& read : reads)
      targets_.push_back(read);
    Status posted = inner_->post(reads);
    follow_inner();
    return posted;
  }

  Result<size_t> poll(std::span<PageArrival> arrivals) override {
    if (!inner_ || (script_.gate && script_.gate->has_failed())) return fail("poll");
    VMHOP_TRY(take_from_inner());
    if (script_.arrivals && handed_out_ == *script_.arrivals) {
      if (!script_.tears_page) return fail("poll");
      if (tear_a_page()) return fail("poll in the middle of a page");
      // The page to tear has not arrived yet; what is there are zeros.
      return hand_out(arrivals);
    }
    if (script_.gate && !script_.gate->is_open()) return size_t{0};
    if (script_.gate && !std::exchange(released_, true)) {
      // The gate's event has done its work; it would make poll() return for ever.
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, script_.gate->fd(), nullptr);
    }
    if (script_.arrivals && arrivals.size() > *script_.arrivals - handed_out_) {
      arrivals = arrivals.first(*script_.arrivals - handed_out_);
    }
    size_t count = hand_out(arrivals);
    handed_out_ += count;
    return count;
  }

  Result<bool> may_wait() override {
    bool fails = !inner_ || (script_.arrivals && handed_out_ == *script_.arrivals);
    bool hands_out = !ready_.empty() && (!script_.gate || script_.gate->is_open());
    if (fails || hands_out) return false;
    return inner_->may_wait();
  }
  int wait_fd() const override { return epoll_.get(); }
  short wait_events() const override { return POLLIN; }

 private:
  void watch(int operation, int fd, short events) {
    epoll_event event{};
    event.events = static_cast<uint32_t>(events);  // POLLIN is EPOLLIN, POLLOUT is EPOLLOUT
    event.data.fd = fd;
    ::epoll_ctl(epoll_.get(), operation, fd, &event);
  }
  void follow_inner() { watch(EPOLL_CTL_MOD, inner_->wait_fd(), inner_->wait_events()); }

  // Once it has failed nothing is written any more: the inner source is gone.
  Error fail(const char* where) {
    inner_.reset();
    return errorf("injected: {} failed", where);
  }

  size_t hand_out(std::span<PageArrival> arrivals) {
    size_t count = std::min(arrivals.size(), ready_.size());
    for (size_t i = 0; i < count; ++i) {
      arrivals[i] = script_.splits_and_reorders ? ready_.back() : ready_.front();
      script_.splits_and_reorders ? ready_.pop_back() : ready_.pop_front();
    }
    return count;
  }

  Status take_from_inner() {
    for (;;) {
      std::array<PageArrival, 16> arrivals;
      VMHOP_ASSIGN(size_t count, inner_->poll(arrivals));
      follow_inner();
      if (count == 0) return ok_status();
      for (const PageArrival& arrival : std::span(arrivals).first(count))
        keep(arrival);
      if (script_.gate && !script_.gate->is_open()) script_.gate->count_held(count);
    }
  }

  void keep(const PageArrival& arrival) {
    if (auto at = script_.damage ? script_.damage->strike(arrival) : std::nullopt) {
      target_of(arrival.range)[*at + 100] ^= std::byte{4};
    }
    if (!script_.splits_and_reorders) {
      ready_.push_back(arrival);
      return;
    }
    for (uint64_t at = 0; at < arrival.range.length; at += kPage) {
      ready_.push_back({{arrival.range.region, arrival.range.offset + at, kPage}, arrival.content});
    }
  }

  // Only a page with data: nobody writes one that is a hole.
  bool tear_a_page() {
    for (const PageArrival& arrival : ready_) {
      if (arrival.content != Content::kData) continue;
      std::memset(target_of(arrival.range) + kPage / 2, 0xbd, kPage / 2);
      return true;
    }
    return false;
  }

  std::byte* target_of(const PageRange& range) const {
    // The latest: a page that was given back may have been asked for again.
    auto read = std::find_if(targets_.rbegin(), targets_.rend(), [&range](const PageRead& each) {
      return each.range.region == range.region && each.range.offset <= range.offset &&
             range.offset < each.range.offset + each.range.length;
    });
    return read->target + (range.offset - read->range.offset);
  }

  std::unique_ptr<PageSource> inner_;
  FaultScript script_;
  UniqueFd epoll_;
  std::vector<PageRead> targets_;
  std::deque<PageArrival> ready_;
  size_t posts_ = 0;
  size_t handed_out_ = 0;
  bool released_ = false;
};

}  // namespace vmhop::testing_support

#include "backend/precacher.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "backend/base/thread_role.h"

namespace vmhop {
namespace {

// While a fault is being read no further background reads are posted, for as long as this: without
// the limit a guest that faults all the time would have no precaching at all.
constexpr std::chrono::microseconds kLongestYield{500};

}  // namespace

Result<std::unique_ptr<Precacher>> Precacher::start(const DestinationMemory& memory,
                                                    PrecachePlan& plan, ReadPace& pace,
                                                    PageVerifier& verifier, PagerCounters& counters,
                                                    Callbacks callbacks) {
  VMHOP_ASSIGN(EventFd wake, EventFd::create());
  VMHOP_ASSIGN(EventFd stop, EventFd::create());
  std::unique_ptr<Precacher> precacher(new Precacher(memory, plan, pace, verifier, counters,
                                                     std::move(callbacks), std::move(wake),
                                                     std::move(stop)));
  precacher->thread_ = std::thread([raw = precacher.get()] {
    begin_thread("vmhop-precache", ThreadRole::kBulk);
    Status end = raw->serve();
    if (!end && !raw->stopping_) raw->callbacks_.on_broken(end.error());
  });
  return precacher;
}

Precacher::~Precacher() {
  stopping_ = true;
  stop_.notify();
  thread_.join();
}

Status Precacher::serve() {
  while (!stopping_) {
    VMHOP_TRY(take_mail());
    // Also when nothing is in flight: that is how a connection that was closed is noticed.
    VMHOP_TRY(take_arrivals());
    // Kept from posting: by a fault that is being read, or by the rate that was asked for.
    auto paced = pace_.delay(Clock::now());
    bool yields = source_ && (paced.count() > 0 || yields_to_faults());
    if (source_ && !yields) VMHOP_TRY(post_reads());
    bool idle = source_ && in_flight_.empty() && !yields;
    bool was_told = std::exchange(idle_told_, idle);
    if (idle && !was_told) callbacks_.on_idle();
    // A millisecond is the shortest poll() knows, and about as long as a fault takes.
    auto wait = std::chrono::ceil<std::chrono::milliseconds>(paced).count();
    VMHOP_TRY(sleep(yields ? static_cast<int>(std::max<int64_t>(wait, 1)) : -1));
  }
  return drop_source();
}

Status Precacher::take_mail() {
  if (!mailbox_.has_news()) return ok_status();
  idle_told_ = false;
  if (auto letter = mailbox_.take()) {
    VMHOP_TRY(drop_source());
    source_ = std::move(*letter);
    window_ = {};
  }
  return ok_status();
}

bool Precacher::yields_to_faults() const {
  return counters_.faults_in_flight.load(std::memory_order_relaxed) > 0 &&
         Clock::now() - last_post_ < kLongestYield;
}

Status Precacher::post_reads() {
  // Refill by half windows: many reads in one system call.
  if (bytes_in_flight_ > window_.bytes() / 2) return ok_status();
  to_post_.clear();
  auto now = Clock::now();
  while (bytes_in_flight_ < window_.bytes() && pace_.delay(now).count() == 0) {
    auto range = plan_.next(window_.read_length());
    if (!range) break;
    pace_.posted(range->length, now);
    to_post_.push_back({*range, memory_.target_of(*range), plan_.is_beside_holes(*range)});
    in_flight_.push_back({*range, 0, 0, window_.posted(now), {}});
    bytes_in_flight_ += range->length;
  }
  if (to_post_.empty()) return ok_status();
  last_post_ = now;
  if (Status posted = source_->post(to_post_); !posted) return lose_source(posted.error());
  return ok_status();
}

Status Precacher::take_arrivals() {
  if (!source_) return ok_status();
  std::array<PageArrival, 32> arrivals;
  auto count = source_->poll(arrivals);
  if (!count) return lose_source(count.error());
  for (size_t i = 0; i < *count; ++i)
    VMHOP_TRY(take(arrivals[i]));
  return ok_status();
}

Status Precacher::take(const PageArrival& arrival) {
  auto read = std::find_if(in_flight_.begin(), in_flight_.end(), [&](const InFlight& entry) {
    return entry.range.region == arrival.range.region &&
           entry.range.offset <= arrival.range.offset &&
           arrival.range.offset + arrival.range.length <= entry.range.offset + entry.range.length;
  });
  if (read == in_flight_.end()) return Error("pages arrived that nobody asked for");
  VMHOP_TRY(verifier_.sift(
      arrival, [&](const PageRange& pages) { return install(pages, arrival.content); },
      [&](const PageRange& page) { read->wrong.push_back(page); }));
  if (arrival.content == Content::kData) {
    read->data += arrival.range.length;
  } else {
    pace_.took_nothing(arrival.range.length);
  }
  read->arrived += arrival.range.length;
  if (read->arrived < read->range.length) return ok_status();
  auto now = Clock::now();
  counters_.bulk_read.record(now - read->posted.at);
  window_.arrived(read->posted, read->range.length, read->data, now);
  bytes_in_flight_ -= read->range.length;
  std::vector<PageRange> wrong = std::move(read->wrong);
  in_flight_.erase(read);
  for (const PageRange& page : wrong)
    VMHOP_TRY(verifier_.give_back(page));
  return ok_status();
}

Status Precacher::install(const PageRange& pages, Content content) {
  uint64_t count = pages.length / memory_.page_size(pages.region);
  if (content == Content::kData) {
    VMHOP_TRY(memory_.install_read(pages));
    counters_.pages_precached.fetch_add(count, std::memory_order_relaxed);
    counters_.bytes_read.fetch_add(pages.length, std::memory_order_relaxed);
  } else {
    VMHOP_TRY(memory_.settle_as_hole(pages));
    counters_.pages_zero.fetch_add(count, std::memory_order_relaxed);
  }
  return ok_status();
}

Status Precacher::lose_source(const Error& error) {
  VMHOP_TRY(drop_source());
  callbacks_.on_source_lost(error);
  return ok_status();
}

// The source goes first: only then can nobody write the pages that it was reading. Of a read that
// arrived in part, only pages still `reading` are given back; they are ours.
Status Precacher::drop_source() {
  source_.reset();
  for (const InFlight& read : in_flight_) {
    uint64_t page_size = memory_.page_size(read.range.region);
    PageStates& states = memory_.states(read.range.region);
    uint64_t first = read.range.offset / page_size;
    for (uint64_t page = first; page < first + read.range.length / page_size; ++page) {
      if (states.get(page) != PageState::kReading) continue;
      VMHOP_TRY(memory_.give_back(memory_.range_of(read.range.region, page, 1)));
    }
    plan_.take_back(read.range);
  }
  in_flight_.clear();
  bytes_in_flight_ = 0;
  return ok_status();
}

Status Precacher::sleep(int timeout_ms) {
  if (source_) {
    auto may_wait = source_->may_wait();
    if (!may_wait) return lose_source(may_wait.error());
    if (!*may_wait) return ok_status();
  }
  std::array<pollfd, 3> polled{};
  size_t count = 0;
  polled[count++] = {stop_.fd(), POLLIN, 0};
  polled[count++] = {mailbox_.fd(), POLLIN, 0};
  if (source_) polled[count++] = {source_->wait_fd(), source_->wait_events(), 0};
  if (::poll(polled.data(), count, timeout_ms) < 0 && errno != EINTR) {
    return Error::from_errno("poll", errno);
  }
  if (polled[1].revents != 0) mailbox_.drain();
  return ok_status();
}

}  // namespace vmhop

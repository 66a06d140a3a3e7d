#include "backend/fault_handler.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "backend/base/thread_role.h"
#include "backend/session/limits.h"

namespace vmhop {
namespace {

// More threads than this rarely fault at once; beyond it the vectors grow once.
constexpr size_t kExpectedFaults = 1024;

bool is_page(const DestinationMemory::Page& left, const DestinationMemory::Page& right) {
  return left.region == right.region && left.page == right.page;
}

}  // namespace

FaultHandler::FaultHandler(const DestinationMemory& memory, PrecachePlan& plan,
                           PageVerifier& verifier, PagerCounters& counters, Callbacks callbacks,
                           EventFd wake, EventFd stop)
    : memory_(memory),
      plan_(plan),
      verifier_(verifier),
      counters_(counters),
      callbacks_(std::move(callbacks)),
      mailbox_(std::move(wake)),
      stop_(std::move(stop)) {
  to_post_.reserve(kExpectedFaults);
  in_flight_.reserve(kExpectedFaults);
  waiting_.reserve(kExpectedFaults);
  retried_.reserve(kExpectedFaults);
}

Result<std::unique_ptr<FaultHandler>> FaultHandler::start(const DestinationMemory& memory,
                                                          PrecachePlan& plan,
                                                          PageVerifier& verifier,
                                                          PagerCounters& counters,
                                                          Callbacks callbacks) {
  VMHOP_ASSIGN(EventFd wake, EventFd::create());
  VMHOP_ASSIGN(EventFd stop, EventFd::create());
  std::unique_ptr<FaultHandler> handler(new FaultHandler(
      memory, plan, verifier, counters, std::move(callbacks), std::move(wake), std::move(stop)));
  handler->thread_ = std::thread([raw = handler.get()] {
    begin_thread("vmhop-fault", ThreadRole::kFault);
    Status end = raw->serve();
    if (!end && !raw->stopping_ && !raw->end_expected_) raw->callbacks_.on_broken(end.error());
  });
  return handler;
}

FaultHandler::~FaultHandler() {
  stopping_ = true;
  stop_.notify();
  thread_.join();
}

Status FaultHandler::serve() {
  while (!stopping_) {
    Status failure;
    auto work = [&] {
      auto busy = look();
      if (!busy) failure = busy.error();
      return !busy || *busy;
    };
    // A page is there within microseconds, the next fault may come whenever it likes.
    AdaptiveSpin& spin = in_flight_.empty() ? spin_for_faults_ : spin_for_pages_;
    bool busy = spin.spin(work);
    if (!failure) return failure;
    // Who does not spin lets poll() say what there is to do next.
    if (busy && spin.enabled()) continue;
    VMHOP_TRY(sleep());
    if (!busy) spin.end_sleep();
  }
  return drop_source();
}

// A page that is there before a fault that may be: somebody has waited for it. Without reads in
// flight the page source is looked at only when poll() said so: that it was closed, nobody is in a
// hurry to hear. True when there was something to do.
Result<bool> FaultHandler::look() {
  std::optional<Told> told = std::exchange(told_, std::nullopt);
  VMHOP_ASSIGN(bool mail, take_mail());
  bool arrivals = false;
  bool faults = false;
  if (told ? told->source : !in_flight_.empty()) {
    VMHOP_ASSIGN(arrivals, take_arrivals());
  }
  if (!told || told->faults) {
    VMHOP_ASSIGN(faults, take_faults());
  }
  return mail || arrivals || faults;
}

Status FaultHandler::sleep() {
  if (source_) {
    auto may_wait = source_->may_wait();
    if (!may_wait) return lose_source(may_wait.error());
    if (!*may_wait) {
      told_ = Told{.faults = true, .source = true};
      return ok_status();
    }
  }
  std::array<pollfd, 3 + kMaxRegions> polled{};
  size_t count = 0;
  polled[count++] = {stop_.fd(), POLLIN, 0};
  polled[count++] = {mailbox_.fd(), POLLIN, 0};
  polled[count++] = {source_ ? source_->wait_fd() : -1, source_ ? source_->wait_events() : short{0},
                     0};
  size_t first_region = count;
  for (const auto& region : memory_.regions()) {
    if (count == polled.size()) return Error("too many regions for one fault handler");
    polled[count++] = {region.userfault.fd(), POLLIN, 0};
  }
  if (::poll(polled.data(), count, -1) < 0 && errno != EINTR)
    return Error::from_errno("poll", errno);
  if (polled[1].revents != 0) mailbox_.drain();
  auto is_ready = [](const pollfd& entry) { return entry.revents != 0; };
  auto faults = std::span(polled).first(count).subspan(first_region);
  told_ = Told{.faults = std::any_of(faults.begin(), faults.end(), is_ready),
               .source = is_ready(polled[first_region - 1])};
  return ok_status();
}

// Looked at in every turn: a guest that faults all the time would keep a new page source waiting.
Result<bool> FaultHandler::take_mail() {
  if (!mailbox_.has_news()) return false;
  if (auto letter = mailbox_.take()) {
    VMHOP_TRY(drop_source());
    source_ = std::move(*letter);
  }
  retried_.swap(waiting_);
  for (const InFlight& fault : retried_)
    VMHOP_TRY(handle(fault.page, fault.seen));
  retried_.clear();
  VMHOP_TRY(post_reads());
  return true;
}

Result<bool> FaultHandler::take_faults() {
  bool any = false;
  for (uint32_t region = 0; region < memory_.regions().size(); ++region) {
    std::array<uint64_t, 16> addresses;
    VMHOP_ASSIGN(size_t count, memory_.regions()[region].userfault.read_faults(addresses));
    if (count == 0) continue;
    any = true;
    memory_.count_faults(region, count);
    auto seen = Clock::now();
    counters_.faults.fetch_add(count, std::memory_order_relaxed);
    for (size_t i = 0; i < count; ++i) {
      auto page = memory_.locate(addresses[i]);
      if (!page) return errorf("a fault at {:#x}, which is in no region", addresses[i]);
      VMHOP_TRY(handle(*page, seen));
    }
  }
  if (any) VMHOP_TRY(post_reads());
  return any;
}

Status FaultHandler::handle(const Page& page, Clock::time_point seen) {
  PageStates& states = memory_.states(page.region);
  for (;;) {
    switch (states.get(page.page)) {
      case PageState::kFilled:
      case PageState::kResident:
        // Its page-table entry was dropped, or somebody installed it this moment.
        counters_.faults_resolved_here.fetch_add(1, std::memory_order_relaxed);
        VMHOP_TRY(memory_.install_present(page));
        counters_.fault_total.record(Clock::now() - seen);
        return ok_status();
      case PageState::kHole:
        counters_.faults_resolved_here.fetch_add(1, std::memory_order_relaxed);
        VMHOP_TRY(memory_.install_hole(page));
        counters_.fault_total.record(Clock::now() - seen);
        return ok_status();
      case PageState::kReading:
        // Whoever reads it wakes the guest when it is there, or when it is given back.
        counters_.faults_on_reads.fetch_add(1, std::memory_order_relaxed);
        return ok_status();
      case PageState::kAbsent:
        if (!source_) {
          await_source(page, seen);
          return ok_status();
        }
        if (!states.claim(page.page)) continue;  // precaching was faster: look again
        PageRange range = memory_.range_of(page.region, page.page, 1);
        to_post_.push_back({range, memory_.target_of(range)});
        in_flight_.push_back({page, seen, {}});
        plan_.note_fault(page);
        return ok_status();
    }
  }
}

// A thread that is interrupted while it waits faults again: its page is noted once.
void FaultHandler::await_source(const Page& page, Clock::time_point seen) {
  bool noted = std::any_of(waiting_.begin(), waiting_.end(),
                           [&page](const InFlight& entry) { return is_page(entry.page, page); });
  if (!noted) waiting_.push_back({page, seen, {}});
}

Status FaultHandler::post_reads() {
  if (to_post_.empty()) return ok_status();
  counters_.faults_in_flight.fetch_add(to_post_.size(), std::memory_order_relaxed);
  Status posted = source_->post(to_post_);
  auto now = Clock::now();
  for (size_t i = in_flight_.size() - to_post_.size(); i < in_flight_.size(); ++i) {
    in_flight_[i].posted = now;
    counters_.fault_post.record(now - in_flight_[i].seen);
  }
  to_post_.clear();
  if (!posted) return lose_source(posted.error());
  return ok_status();
}

Result<bool> FaultHandler::take_arrivals() {
  if (!source_) return false;
  std::array<PageArrival, 16> arrivals;
  auto count = source_->poll(arrivals);
  if (!count) {
    VMHOP_TRY(lose_source(count.error()));
    return true;
  }
  if (*count == 0) return false;
  for (size_t i = 0; i < *count; ++i)
    VMHOP_TRY(take(arrivals[i]));
  // Before the plan is complete nothing can be drained, and nobody need ask.
  if (in_flight_.empty() && plan_.complete()) callbacks_.on_idle();
  return true;
}

Status FaultHandler::take(const PageArrival& arrival) {
  auto there = Clock::now();
  auto fault = std::find_if(in_flight_.begin(), in_flight_.end(), [&](const InFlight& entry) {
    return arrival.range == memory_.range_of(entry.page.region, entry.page.page, 1);
  });
  if (fault == in_flight_.end()) return Error("a page arrived that nobody asked for");
  bool wrong = false;
  VMHOP_TRY(verifier_.sift(
      arrival, [&](const PageRange& page) { return install(page, arrival.content); },
      [&wrong](const PageRange& /*page*/) { wrong = true; }));
  auto done = Clock::now();
  counters_.faults_in_flight.fetch_sub(1, std::memory_order_relaxed);
  counters_.fault_read.record(there - fault->posted);
  counters_.fault_install.record(done - there);
  counters_.fault_total.record(done - fault->seen);
  *fault = in_flight_.back();
  in_flight_.pop_back();
  // Whoever waits for it faults anew, and it is read again.
  return wrong ? verifier_.give_back(arrival.range) : ok_status();
}

Status FaultHandler::install(const PageRange& page, Content content) {
  if (content == Content::kData) {
    VMHOP_TRY(memory_.install_read(page));
    counters_.pages_faulted.fetch_add(1, std::memory_order_relaxed);
    counters_.bytes_read.fetch_add(page.length, std::memory_order_relaxed);
    return ok_status();
  }
  uint64_t number = page.offset / page.length;
  memory_.states(page.region).set_hole(number, 1);
  counters_.pages_zero.fetch_add(1, std::memory_order_relaxed);
  return memory_.install_hole({page.region, number});
}

Status FaultHandler::lose_source(const Error& error) {
  VMHOP_TRY(drop_source());
  callbacks_.on_source_lost(error);
  return ok_status();
}

// The source goes first: only then can nobody write the pages that it was reading.
Status FaultHandler::drop_source() {
  source_.reset();
  counters_.faults_in_flight.fetch_sub(in_flight_.size(), std::memory_order_relaxed);
  for (const InFlight& fault : in_flight_) {
    PageRange range = memory_.range_of(fault.page.region, fault.page.page, 1);
    VMHOP_TRY(memory_.give_back(range));
    plan_.take_back(range);  // whoever waited may be gone, and precaching have passed here
  }
  in_flight_.clear();
  return ok_status();
}

}  // namespace vmhop

// Answers the guest's faults: reads each missing page from the page source and installs it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "backend/base/adaptive_poll.h"
#include "backend/destination_memory.h"
#include "backend/page_verifier.h"
#include "backend/pager_counters.h"
#include "backend/precache_plan.h"
#include "backend/source_mailbox.h"

namespace vmhop {

// One thread. It takes no lock that precaching holds and allocates nothing per fault; a fault costs
// it the userfaultfd's system calls and the page source's. While it has no page source, faults that
// need none are answered and the others wait.
class FaultHandler {
 public:
  struct Callbacks {
    // From the handler's thread. The page source failed and is destroyed, what it was reading is
    // absent again; give the next to attach().
    std::function<void(const Error&)> on_source_lost;
    // Nothing is being read for a fault any more.
    std::function<void()> on_idle;
    // The userfaultfd itself failed: QEMU is gone, or something is badly wrong. The thread ends.
    std::function<void(const Error&)> on_broken;
  };

  static Result<std::unique_ptr<FaultHandler>> start(const DestinationMemory& memory,
                                                     PrecachePlan& plan, PageVerifier& verifier,
                                                     PagerCounters& counters, Callbacks callbacks);
  ~FaultHandler();  // stops and joins

  // From any thread: read from this source now; null: from none.
  void attach(std::unique_ptr<PageSource> source) { mailbox_.put(std::move(source)); }
  // From any thread: pages that faults wait for may have become holes.
  void notify() { mailbox_.notify(); }
  // From any thread: the registration is about to go, errors mean nothing from now on.
  void expect_end() { end_expected_ = true; }

 private:
  using Clock = std::chrono::steady_clock;
  using Page = DestinationMemory::Page;
  struct InFlight {
    Page page;
    Clock::time_point seen;
    Clock::time_point posted;
  };

  FaultHandler(const DestinationMemory& memory, PrecachePlan& plan, PageVerifier& verifier,
               PagerCounters& counters, Callbacks callbacks, EventFd wake, EventFd stop);

  // What poll() said is ready.
  struct Told {
    bool faults;
    bool source;
  };

  Status serve();
  Result<bool> look();
  Result<bool> take_mail();
  Result<bool> take_faults();
  Status handle(const Page& page, Clock::time_point seen);
  void await_source(const Page& page, Clock::time_point seen);
  Status post_reads();
  Result<bool> take_arrivals();
  Status take(const PageArrival& arrival);
  Status install(const PageRange& page, Content content);
  Status drop_source();
  Status lose_source(const Error& error);
  Status sleep();

  const DestinationMemory& memory_;
  PrecachePlan& plan_;
  PageVerifier& verifier_;
  PagerCounters& counters_;
  Callbacks callbacks_;
  SourceMailbox mailbox_;
  EventFd stop_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> end_expected_{false};

  // All below belong to the thread.
  std::unique_ptr<PageSource> source_;
  std::vector<PageRead> to_post_;
  std::vector<InFlight> in_flight_;
  std::vector<InFlight> waiting_;  // for a page source
  std::vector<InFlight> retried_;
  std::optional<Told> told_;  // none: that may be anything
  AdaptiveSpin spin_for_faults_;
  AdaptiveSpin spin_for_pages_;
  std::thread thread_;
};

}  // namespace vmhop

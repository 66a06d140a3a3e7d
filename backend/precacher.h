// Pulls pages in the background, the likely ones first.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "backend/base/fd.h"
#include "backend/destination_memory.h"
#include "backend/page_verifier.h"
#include "backend/pager_counters.h"
#include "backend/precache_plan.h"
#include "backend/read_pace.h"
#include "backend/read_window.h"
#include "backend/source_mailbox.h"

namespace vmhop {

// One thread with one page source; a pager has several. Each keeps a bounded amount of reads in
// flight, so that a fault on the same link never waits behind more than that.
class Precacher {
 public:
  struct Callbacks {
    // As FaultHandler's, from the precacher's thread.
    std::function<void(const Error&)> on_source_lost;
    std::function<void(const Error&)> on_broken;
    // The plan has nothing to claim and nothing is in flight here.
    std::function<void()> on_idle;
  };

  static Result<std::unique_ptr<Precacher>> start(const DestinationMemory& memory,
                                                  PrecachePlan& plan, ReadPace& pace,
                                                  PageVerifier& verifier, PagerCounters& counters,
                                                  Callbacks callbacks);
  ~Precacher();  // stops and joins

  // From any thread: read from this source now; null: from none.
  void attach(std::unique_ptr<PageSource> source) { mailbox_.put(std::move(source)); }
  // From any thread: the plan may have something to claim again.
  void notify() { mailbox_.notify(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct InFlight {
    PageRange range;
    uint64_t arrived;  // bytes
    uint64_t data;     // of those, bytes that are not zeros
    ReadWindow::Posted posted;
    // Pages that arrived with other bytes than the source's. They are given back with the rest of
    // the read, or when it is complete: until then whoever looks at the read takes what is
    // `reading` for its own.
    std::vector<PageRange> wrong;
  };

  Precacher(const DestinationMemory& memory, PrecachePlan& plan, ReadPace& pace,
            PageVerifier& verifier, PagerCounters& counters, Callbacks callbacks, EventFd wake,
            EventFd stop)
      : memory_(memory),
        plan_(plan),
        pace_(pace),
        verifier_(verifier),
        counters_(counters),
        callbacks_(std::move(callbacks)),
        mailbox_(std::move(wake)),
        stop_(std::move(stop)) {}

  Status serve();
  Status take_mail();
  Status post_reads();
  bool yields_to_faults() const;
  Status take_arrivals();
  Status take(const PageArrival& arrival);
  Status install(const PageRange& pages, Content content);
  Status drop_source();
  Status lose_source(const Error& error);
  Status sleep(int timeout_ms);

  const DestinationMemory& memory_;
  PrecachePlan& plan_;
  ReadPace& pace_;
  PageVerifier& verifier_;
  PagerCounters& counters_;
  Callbacks callbacks_;
  SourceMailbox mailbox_;
  EventFd stop_;
  std::atomic<bool> stopping_{false};

  // All below belong to the thread.
  std::unique_ptr<PageSource> source_;
  ReadWindow window_;
  std::vector<PageRead> to_post_;
  std::vector<InFlight> in_flight_;
  uint64_t bytes_in_flight_ = 0;
  Clock::time_point last_post_{};
  bool idle_told_ = false;
  std::thread thread_;
};

}  // namespace vmhop

// The engine of the destination: brings a VM's memory home, by faults and by precaching. It knows
// neither the session nor QEMU; pager_process.h joins it to them.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "backend/destination_memory.h"
#include "backend/fault_handler.h"
#include "backend/page_verifier.h"
#include "backend/pager_counters.h"
#include "backend/precache_plan.h"
#include "backend/precacher.h"

namespace vmhop {

// One thread owns a pager and makes all calls; the callbacks come from the pager's own threads.
class Pager {
 public:
  struct Callbacks {
    // A page source failed and is gone. The others go on; the owner brings new ones.
    std::function<void(const Error&)> on_source_lost;
    // A good moment to ask drained().
    std::function<void()> on_idle;
    // Nothing can be installed any more: QEMU is gone, or the kernel refuses.
    std::function<void(const Error&)> on_broken;
    // A page arrived with other bytes than the source's.
    std::function<void(const WrongPage&)> on_wrong_page = [](const WrongPage&) {};
  };

  // Takes over what a former pager of the same page map left, then serves faults at once. Those
  // that need the source wait for attach_fault_source().
  static Result<std::unique_ptr<Pager>> start(std::vector<DestinationMemory::Region> regions,
                                              PageMap& page_map, unsigned precachers,
                                              Callbacks callbacks);
  ~Pager();

  void attach_fault_source(std::unique_ptr<PageSource> source);
  void attach_bulk_source(unsigned precacher, std::unique_ptr<PageSource> source);
  // Destroys all page sources, each in its thread; what they were reading is given back.
  void detach_sources();

  // What the source knows to be populated, while it is not final. Precaching starts there.
  void set_preliminary_layout(uint32_t region, ExtentList extents);
  // All regions' final layouts. Marking the holes grows with RAM: a thread of its own does it.
  void set_final_layout(std::vector<ExtentList> extents);

  // Precaching takes no more than this, in bytes a second; 0: all that there is. Faults do not
  // wait.
  void limit_precaching(uint64_t bytes_per_second) { pace_.set_rate(bytes_per_second); }

  // The source's checksums, where the page map has room for them; an error if they make no sense.
  Status announce(const Checksums& checksums) { return verifier_.announce(checksums); }
  uint64_t pages_announced() const { return verifier_.counts().announced; }
  // The next ones are of a new link, from the beginning.
  void forget_announcements() { verifier_.forget_last(); }

  // True when every page is resident or a hole, looked up page by page, never inferred; and, where
  // pages are verified, every one that came from the source is as it was there.
  bool drained() const;
  // After drained(): unregisters, so that the kernel serves the VM alone from now on. Attaching
  // sources does nothing any more then.
  Status finish();

  Progress progress() const;
  // Of each region, in their order.
  struct RegionProgress {
    uint64_t resident = 0;  // bytes
    uint64_t faults = 0;
  };
  std::vector<RegionProgress> region_progress() const;
  const PagerCounters& counters() const { return counters_; }
  const DestinationMemory& memory() const { return memory_; }

 private:
  Pager(std::vector<DestinationMemory::Region> regions, PageMap& page_map, Callbacks callbacks)
      : memory_(std::move(regions), page_map),
        plan_(memory_),
        callbacks_(std::move(callbacks)),
        verifier_(memory_, plan_, callbacks_.on_wrong_page) {}
  void count_total();
  uint64_t pages_here(const Progress& progress) const;
  bool seen_drained() const { return undone_.region == memory_.regions().size(); }
  void stop_threads();

  DestinationMemory memory_;
  PrecachePlan plan_;
  PagerCounters counters_;
  Callbacks callbacks_;
  PageVerifier verifier_;
  ReadPace pace_;
  uint64_t taken_over_ = 0;  // pages that a former pager had installed
  std::vector<ExtentList> preliminary_;
  std::thread layout_thread_;
  // All pages before this one were resident or holes when drained() looked. Both are for good.
  mutable DestinationMemory::Page undone_{0, 0};
  std::unique_ptr<FaultHandler> faults_;
  std::vector<std::unique_ptr<Precacher>> precachers_;
};

}  // namespace vmhop

// Which pages to read next in the background: those around the latest faults, then the rest in
// order.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>

#include "backend/base/extents.h"
#include "backend/destination_memory.h"

namespace vmhop {

class PrecachePlan {
 public:
  explicit PrecachePlan(const DestinationMemory& memory);

  // From any thread, without locks: the guest wants this page now, so it will want its neighbours.
  void note_fault(const DestinationMemory::Page& page);

  // From any thread: what is known to be populated. The list replaces the region's former one.
  void set_extents(uint32_t region, ExtentList extents);
  // Every region's extents are final and its holes are marked.
  void set_complete();
  bool complete() const { return complete_.load(std::memory_order_acquire); }

  // From any precaching thread: claims the next pages, at most `max_bytes`, in one run that does
  // not cross a multiple of `max_bytes`, as large pages in the memory file do not; empty when there
  // is nothing left that can be claimed now.
  std::optional<PageRange> next(uint64_t max_bytes);
  // From any thread: whether what is known does not cover the huge page that these pages are in.
  bool is_beside_holes(const PageRange& range) const;
  // From any thread: these pages were claimed, by whomever, and given back. They need not be in any
  // extent: a page that was being read when holes were marked may be one.
  void take_back(const PageRange& range);
  // Called after each take_back(): somebody who found nothing to claim may find something now. It
  // may not call back. Once this returns, the former one is not called any more.
  void on_taken_back(std::function<void()> callback);

 private:
  struct Stretch {  // of pages
    uint32_t region;
    uint64_t next;
    uint64_t end;
  };
  static constexpr size_t kRecentFaults = 64;
  static constexpr size_t kMaxNeighbourhoods = 64;

  void collect_faults();
  std::optional<PageRange> next_of(std::deque<Stretch>& stretches, uint64_t max_bytes);
  std::optional<PageRange> next_in_sweep(uint64_t max_bytes);

  const DestinationMemory& memory_;
  std::atomic<bool> complete_{false};

  // A ring that the fault handler writes and precaching reads: an entry overwritten before it was
  // read is merely a hint lost. region << 48 | page + 1, so that 0 is empty.
  std::array<std::atomic<uint64_t>, kRecentFaults> recent_{};
  std::atomic<uint64_t> recent_head_{0};

  mutable std::mutex mutex_;  // guards all below; never taken on the fault path
  std::function<void()> on_taken_back_;
  uint64_t recent_tail_ = 0;
  std::deque<Stretch> neighbourhoods_;
  std::deque<Stretch> taken_back_;
  std::vector<ExtentList> extents_;
  uint32_t sweep_region_ = 0;
  uint64_t sweep_offset_ = 0;
};

}  // namespace vmhop

#include "backend/precache_plan.h"

#include <algorithm>

#include "backend/base/ram_file.h"

namespace vmhop {
namespace {

// Programs walk memory upwards more than downwards.
constexpr uint64_t kPagesAhead = 32;
constexpr uint64_t kPagesBehind = 8;
constexpr unsigned kRegionShift = 48;

// From `page` on, as far as one claim goes.
uint64_t pages_until_boundary(uint64_t page, uint64_t page_size, uint64_t max_bytes) {
  uint64_t limit = std::max<uint64_t>(1, max_bytes / page_size);
  return limit - page % limit;
}

}  // namespace

PrecachePlan::PrecachePlan(const DestinationMemory& memory)
    : memory_(memory), extents_(memory.regions().size()) {}

void PrecachePlan::note_fault(const DestinationMemory::Page& page) {
  uint64_t slot = recent_head_.fetch_add(1, std::memory_order_relaxed) % kRecentFaults;
  recent_[slot].store(uint64_t{page.region} << kRegionShift | (page.page + 1),
                      std::memory_order_release);
}

void PrecachePlan::set_extents(uint32_t region, ExtentList extents) {
  std::lock_guard lock(mutex_);
  extents_[region] = std::move(extents);
  sweep_region_ = 0;
  sweep_offset_ = 0;
}

void PrecachePlan::set_complete() {
  complete_.store(true, std::memory_order_release);
}

void PrecachePlan::take_back(const PageRange& range) {
  uint64_t page_size = memory_.page_size(range.region);
  std::lock_guard lock(mutex_);
  taken_back_.push_back(
      {range.region, range.offset / page_size, (range.offset + range.length) / page_size});
  if (on_taken_back_) on_taken_back_();
}

void PrecachePlan::on_taken_back(std::function<void()> callback) {
  std::lock_guard lock(mutex_);
  on_taken_back_ = std::move(callback);
}

std::optional<PageRange> PrecachePlan::next(uint64_t max_bytes) {
  std::lock_guard lock(mutex_);
  collect_faults();
  if (auto range = next_of(neighbourhoods_, max_bytes)) return range;
  if (auto range = next_of(taken_back_, max_bytes)) return range;
  return next_in_sweep(max_bytes);
}

bool PrecachePlan::is_beside_holes(const PageRange& range) const {
  uint64_t start = range.offset - range.offset % kTransparentHugePage;
  uint64_t end = std::min(start + kTransparentHugePage, memory_.size(range.region));
  std::lock_guard lock(mutex_);
  const ExtentList& extents = extents_[range.region];
  size_t i = find_extent(extents, range.offset);
  return i == extents.size() || extents[i].offset > start || extents[i].end() < end;
}

void PrecachePlan::collect_faults() {
  uint64_t head = recent_head_.load(std::memory_order_relaxed);
  if (head - recent_tail_ > kRecentFaults) recent_tail_ = head - kRecentFaults;
  for (; recent_tail_ < head; ++recent_tail_) {
    uint64_t entry = recent_[recent_tail_ % kRecentFaults].exchange(0, std::memory_order_acquire);
    if (entry == 0) continue;
    auto region = static_cast<uint32_t>(entry >> kRegionShift);
    uint64_t page = (entry & ((uint64_t{1} << kRegionShift) - 1)) - 1;
    uint64_t pages = memory_.states(region).pages();
    // The newest first: the guest is there now.
    neighbourhoods_.push_front({region, page - std::min(page, kPagesBehind), page});
    neighbourhoods_.push_front({region, page + 1, std::min(pages, page + 1 + kPagesAhead)});
  }
  while (neighbourhoods_.size() > kMaxNeighbourhoods)
    neighbourhoods_.pop_back();
}

std::optional<PageRange> PrecachePlan::next_of(std::deque<Stretch>& stretches, uint64_t max_bytes) {
  while (!stretches.empty()) {
    Stretch& stretch = stretches.front();
    PageStates& states = memory_.states(stretch.region);
    uint64_t page_size = memory_.page_size(stretch.region);
    while (stretch.next < stretch.end) {
      uint64_t first = stretch.next;
      uint64_t limit = pages_until_boundary(first, page_size, max_bytes);
      uint64_t count = states.claim_run(first, std::min(limit, stretch.end - first));
      stretch.next = first + std::max<uint64_t>(count, 1);
      if (count > 0) return memory_.range_of(stretch.region, first, count);
    }
    stretches.pop_front();
  }
  return std::nullopt;
}

std::optional<PageRange> PrecachePlan::next_in_sweep(uint64_t max_bytes) {
  for (; sweep_region_ < extents_.size(); ++sweep_region_, sweep_offset_ = 0) {
    const ExtentList& extents = extents_[sweep_region_];
    PageStates& states = memory_.states(sweep_region_);
    uint64_t page_size = memory_.page_size(sweep_region_);
    for (size_t i = find_extent(extents, sweep_offset_); i < extents.size(); ++i) {
      sweep_offset_ = std::max(sweep_offset_, extents[i].offset);
      while (sweep_offset_ < extents[i].end()) {
        uint64_t first = sweep_offset_ / page_size;
        uint64_t left = (extents[i].end() - sweep_offset_) / page_size;
        uint64_t limit = pages_until_boundary(first, page_size, max_bytes);
        uint64_t count = states.claim_run(first, std::min(limit, left));
        sweep_offset_ += std::max<uint64_t>(count, 1) * page_size;
        if (count > 0) return memory_.range_of(sweep_region_, first, count);
      }
    }
  }
  return std::nullopt;
}

}  // namespace vmhop

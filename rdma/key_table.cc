#include "rdma/key_table.h"

#include <algorithm>

namespace vmhop::rdma {

const KeyedRange* KeyTable::find(uint32_t region, uint64_t offset) const {
  if (region >= regions_.size()) return nullptr;
  const Ranges* ranges = regions_[region].current.load(std::memory_order_acquire);
  if (ranges == nullptr) return nullptr;
  auto after = std::upper_bound(
      ranges->begin(), ranges->end(), offset,
      [](uint64_t value, const KeyedRange& range) { return value < range.offset; });
  if (after == ranges->begin()) return nullptr;
  const KeyedRange& candidate = *std::prev(after);
  return offset < candidate.end() ? &candidate : nullptr;
}

Status KeyTable::add(uint32_t region, std::vector<KeyedRange> ranges) {
  if (region >= regions_.size()) return errorf("keys for region {}, which is not there", region);
  Region& entry = regions_[region];
  auto merged = std::make_unique<Ranges>(std::move(ranges));
  if (const Ranges* current = entry.current.load(std::memory_order_relaxed); current != nullptr) {
    merged->insert(merged->end(), current->begin(), current->end());
  }
  std::sort(merged->begin(), merged->end(),
            [](const KeyedRange& a, const KeyedRange& b) { return a.offset < b.offset; });
  for (size_t i = 1; i < merged->size(); ++i) {
    if ((*merged)[i].offset < (*merged)[i - 1].end()) {
      return errorf("keys overlap at offset {:#x} of region {}", (*merged)[i].offset, region);
    }
  }
  entry.current.store(merged.get(), std::memory_order_release);
  entry.versions.push_back(std::move(merged));
  return ok_status();
}

}  // namespace vmhop::rdma

// Sorted lists of byte ranges.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace vmhop {

// A range of a region, in bytes.
struct Extent {
  uint64_t offset = 0;
  uint64_t length = 0;
  uint64_t end() const { return offset + length; }
  bool operator==(const Extent&) const = default;
};

// Sorted by offset, not overlapping, not touching, none empty.
using ExtentList = std::vector<Extent>;

uint64_t total_length(std::span<const Extent> extents);
// True if the list is what ExtentList promises, within `size` bytes and in units of `granularity`.
bool is_well_formed(std::span<const Extent> extents, uint64_t size, uint64_t granularity);
// Joins extents whose gap is at most `max_gap` bytes.
ExtentList merge_gaps(std::span<const Extent> extents, uint64_t max_gap);
// What is in `left` and not in `right`.
ExtentList difference(std::span<const Extent> left, std::span<const Extent> right);
// The extent that holds `offset`, or the first one after it; extents.size() when there is none.
size_t find_extent(std::span<const Extent> extents, uint64_t offset);

}  // namespace vmhop

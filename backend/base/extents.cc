#include "backend/base/extents.h"

#include <algorithm>

namespace vmhop {

uint64_t total_length(std::span<const Extent> extents) {
  uint64_t total = 0;
  for (const Extent& extent : extents)
    total += extent.length;
  return total;
}

bool is_well_formed(std::span<const Extent> extents, uint64_t size, uint64_t granularity) {
  uint64_t free_from = 0;
  bool first = true;
  for (const Extent& extent : extents) {
    if (extent.length == 0 || extent.offset % granularity != 0 ||
        extent.length % granularity != 0) {
      return false;
    }
    if (extent.offset > size || extent.length > size - extent.offset) return false;
    if (!first && extent.offset <= free_from) return false;
    free_from = extent.end();
    first = false;
  }
  return true;
}

ExtentList merge_gaps(std::span<const Extent> extents, uint64_t max_gap) {
  ExtentList merged;
  for (const Extent& extent : extents) {
    if (!merged.empty() && extent.offset - merged.back().end() <= max_gap) {
      merged.back().length = extent.end() - merged.back().offset;
    } else {
      merged.push_back(extent);
    }
  }
  return merged;
}

ExtentList difference(std::span<const Extent> left, std::span<const Extent> right) {
  ExtentList result;
  size_t r = 0;
  for (Extent rest : left) {
    while (r < right.size() && right[r].end() <= rest.offset)
      ++r;
    for (size_t i = r; i < right.size() && right[i].offset < rest.end(); ++i) {
      if (right[i].offset > rest.offset) {
        result.push_back({rest.offset, right[i].offset - rest.offset});
      }
      uint64_t end = rest.end();
      rest.offset = std::min(end, std::max(rest.offset, right[i].end()));
      rest.length = end - rest.offset;
    }
    if (rest.length > 0) result.push_back(rest);
  }
  return result;
}

size_t find_extent(std::span<const Extent> extents, uint64_t offset) {
  auto it = std::partition_point(extents.begin(), extents.end(),
                                 [offset](const Extent& e) { return e.end() <= offset; });
  return static_cast<size_t>(it - extents.begin());
}

}  // namespace vmhop

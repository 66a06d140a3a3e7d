#include "rdma/registration_plan.h"

#include <algorithm>
#include <vector>

namespace vmhop::rdma {
namespace {

// The largest gap that is still closed: all gaps up to it fit the budget together.
uint64_t widest_affordable_gap(std::span<const Extent> extents, double share) {
  std::vector<uint64_t> gaps;
  gaps.reserve(extents.size());
  for (size_t i = 1; i < extents.size(); ++i)
    gaps.push_back(extents[i].offset - extents[i - 1].end());
  std::sort(gaps.begin(), gaps.end());
  auto budget = static_cast<uint64_t>(static_cast<double>(total_length(extents)) * share);
  uint64_t widest = 0;
  uint64_t spent = 0;
  for (size_t i = 0; i < gaps.size();) {
    // All of one width, or none of them: a plan does not depend on where in memory they lie.
    size_t same = i;
    while (same < gaps.size() && gaps[same] == gaps[i])
      ++same;
    spent += (same - i) * gaps[i];
    if (spent > budget) break;
    widest = gaps[i];
    i = same;
  }
  return widest;
}

}  // namespace

ExtentList plan_registration(std::span<const Extent> extents, const RegistrationLimits& limits) {
  ExtentList pieces;
  for (Extent extent : merge_gaps(extents, widest_affordable_gap(extents, limits.gap_share))) {
    while (extent.length > limits.max_piece) {
      pieces.push_back({extent.offset, limits.max_piece});
      extent.offset += limits.max_piece;
      extent.length -= limits.max_piece;
    }
    pieces.push_back(extent);
  }
  return pieces;
}

}  // namespace vmhop::rdma

// Which ranges of a region are registered as one piece.
#pragma once

#include <cstdint>
#include <span>

#include "backend/base/extents.h"

namespace vmhop::rdma {

struct RegistrationLimits {
  // Joining extents over small gaps saves registrations and costs the gaps' memory, which gets
  // allocated; at most this share of what is populated.
  double gap_share = 0.04;
  // Pieces are registered in parallel.
  uint64_t max_piece = 64 << 20;  // bytes
};

// The pieces that cover `extents`, the smallest gaps closed first. What is too fragmented for the
// share stays in pieces of its own.
ExtentList plan_registration(std::span<const Extent> extents, const RegistrationLimits& limits);

}  // namespace vmhop::rdma

// Registers many pieces of memory with several threads: pinning is the kernel's work, page by page.
#pragma once

#include <span>
#include <vector>

#include "backend/base/extents.h"
#include "backend/base/result.h"
#include "rdma/verbs.h"

namespace vmhop::rdma {

// One for each piece, in their order; `base` is where offset 0 is mapped. With the error of any
// piece all of them are given back.
Result<std::vector<MemoryRegion>> register_pieces(const ProtectionDomain& domain, std::byte* base,
                                                  std::span<const Extent> pieces, int access);

}  // namespace vmhop::rdma

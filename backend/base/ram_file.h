// The shared memory file behind a VM's RAM.
#pragma once

#include <cstdint>
#include <string>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

// An anonymous shared memory file of `size` bytes, named `name` in /proc, whose memory comes in
// transparent huge pages where the kernel has them: QEMU's own, anonymous RAM does, and a memfd
// does not unless the administrator changed transparent_hugepage/shmem_enabled, which is "never"
// everywhere. Filling, mapping and freeing it takes a quarter to a fiftieth of the CPU
// (bench/fill_memory; docs/performance.md).
//
// It is a file in a tmpfs of its own, mounted nowhere, with huge=within_size: for whoever may
// mount. For others, and where the kernel has no huge pages, it is create_memfd()'s. Unlike that
// one its size is not sealed.
//
// Such a file allocates 2 MiB when the first page of them is touched or written, unless
//  - the mapping that touches has MADV_NOHUGEPAGE, as Mapping::map_shared()'s have, or
//  - a page is there already: the kernel takes the largest that goes between those that are.
Result<UniqueFd> create_ram_file(const std::string& name, uint64_t size);

// What the kernel fills at once, if it does.
constexpr uint64_t kTransparentHugePage = 2 << 20;

}  // namespace vmhop

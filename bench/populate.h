// Fills a VM's RAM from outside, as a guest that has used it would have: quicker than any guest.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "backend/base/result.h"

namespace vmhop::bench {

// Writes to the RAM of the QEMU process `qemu`, from `from` bytes on, whatever is not populated
// yet: the first quarter every other page, the rest whole. Returns the populated share of all RAM.
Result<double> populate(pid_t qemu, uint64_t ram_bytes, uint64_t from);

}  // namespace vmhop::bench

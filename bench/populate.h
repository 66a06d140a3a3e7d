// Fills a VM's RAM from outside, as a guest that has used it would have: quicker than any guest.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "backend/base/result.h"

namespace vmhop::bench {

// Writes to the RAM of the QEMU process `qemu`, from `from` bytes on, whatever is not populated
// yet: the first quarter every other page, the rest whole. Returns the populated share of all RAM.
Result<double> populate(pid_t qemu, uint64_t ram_bytes, uint64_t from);

// Touches so much of this host's free memory, once. A virtual host may have given its free memory
// back to its own host (free page reporting), and then whoever takes it next waits for that host: a
// few seconds a GiB, as often as not in the middle of a measurement.
Status warm_free_memory(uint64_t bytes);

}  // namespace vmhop::bench

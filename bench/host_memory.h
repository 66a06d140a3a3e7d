// The memory of this machine, which both hosts of a round share.
//
// A virtual machine may give free memory back to its own host (virtio-balloon's free page
// reporting), 2 MiB and more at a time and seconds after it became free; whoever takes it next
// waits two seconds a GiB for that host. Measurements would then say which mode happened to take
// memory that had just been in use. So on such a machine all but what a round needs is kept in use,
// and what it needs is touched once right before the relocation: as it is on a machine of iron.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/base/result.h"

namespace vmhop::bench {

class HostMemory {
 public:
  HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  ~HostMemory();

  // An error where there is too little; what ended just now may take a moment to be free again.
  Status make_room(uint64_t needed_mib);
  // Of what is free now, so much is warm from here on, for a few seconds.
  Status warm(uint64_t mib);

 private:
  bool is_given_back_;
  std::vector<void*> held_;  // kPieceMib each
};

}  // namespace vmhop::bench

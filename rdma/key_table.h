// What can be read by RDMA, and into what: looked up for every read, while keys are still added.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "backend/base/result.h"
#include "rdma/verbs.h"

namespace vmhop::rdma {

// A range of a region that the source has registered.
struct KeyedRange {
  uint64_t offset = 0;  // bytes, within the region
  uint64_t length = 0;
  uint64_t remote_address = 0;  // of its first byte at the source
  uint32_t remote_key = 0;
  uint32_t local_key = 0;
  // Where its first byte belongs here; null while that is not registered.
  std::byte* local = nullptr;
  uint64_t end() const { return offset + length; }
};

// find() from any thread, at any time, without a lock; add() and the rest from one thread.
class KeyTable {
 public:
  explicit KeyTable(size_t regions) : regions_(regions) {}

  // The range that holds this byte; null when there is none. It stays valid as long as the table.
  const KeyedRange* find(uint32_t region, uint64_t offset) const;
  // Adds ranges of one region that overlap none that are there; the error names one that does.
  Status add(uint32_t region, std::vector<KeyedRange> ranges);

 private:
  using Ranges = std::vector<KeyedRange>;  // sorted by offset
  struct Region {
    // The newest version, stored with release once it is complete and loaded with acquire.
    std::atomic<const Ranges*> current{nullptr};
    // Every version: a reader may still look into an older one. There are two or three.
    std::vector<std::unique_ptr<const Ranges>> versions;
  };
  std::vector<Region> regions_;
};

}  // namespace vmhop::rdma

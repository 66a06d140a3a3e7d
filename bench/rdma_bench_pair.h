// Both ends of an RDMA transport in one program, with memory to read.
#pragma once

#include <memory>
#include <vector>

#include "rdma/memory_export.h"
#include "rdma/memory_import.h"

namespace vmhop::bench {

class BenchPair {
 public:
  // Populated but for a page in a hundred and a hole of a quarter at the end, as a guest's memory
  // may be; everything that is read below pages() is registered.
  static Result<std::unique_ptr<BenchPair>> create(uint64_t bytes, size_t connections);

  Result<rdma::Connection> connection(size_t index) { return import_->take_connection(index); }
  Result<std::unique_ptr<PageSource>> source(size_t index) {
    return import_->take_source(index, nullptr);
  }
  const rdma::KeyedRange* range_at(uint64_t offset) const {
    return import_->keys().find(0, offset);
  }
  std::byte* target() const { return targets_[0].ram.alias(); }
  // What there is to read from offset 0 on.
  uint64_t bytes() const { return bytes_; }
  uint64_t pages() const { return bytes_ / 4096; }
  double registered_ratio() const { return registered_ratio_; }

 private:
  explicit BenchPair(uint64_t bytes) : bytes_(bytes) {}

  uint64_t bytes_;
  double registered_ratio_ = 0;
  std::vector<RamRegion> sources_;
  std::vector<DestinationMemory::Region> targets_;
  std::unique_ptr<rdma::RdmaMemoryExport> export_;
  std::unique_ptr<rdma::RdmaMemoryImport> import_;
};

}  // namespace vmhop::bench

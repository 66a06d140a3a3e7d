// One host's memory of which another host has the pages: both within this program, a TCP connection
// over the loopback between them.
#pragma once

#include <memory>
#include <random>
#include <vector>

#include "backend/destination_memory.h"
#include "backend/page_map.h"
#include "backend/ram_region.h"
#include "backend/userfault.h"

namespace vmhop::bench {

inline constexpr uint64_t kPage = 4096;

struct TcpPair {
  UniqueFd near;  // non-blocking, without delay, both
  UniqueFd far;
};
Result<TcpPair> connect_loopback();

// The source's memory, every page with data, and the destination's as QEMU would map it: empty,
// registered with userfaultfd. Who fills it is up to the benchmark.
class FaultStage {
 public:
  static Result<std::unique_ptr<FaultStage>> create(uint64_t bytes);

  std::span<const RamRegion> source() const { return source_; }
  const RamRegion& target() const { return target_[0]; }
  const Userfault& userfault() const { return userfault_; }
  uint64_t guest_address() const { return reinterpret_cast<uint64_t>(guest_.data()); }
  uint64_t pages() const { return target_[0].pages(); }
  // As a pager takes it: with descriptors and a mapping of its own.
  Result<std::vector<DestinationMemory::Region>> target_regions() const;

  // As the guest: reads one word of a page, and how long that took, in µs.
  double touch(uint64_t page) const;
  // An error unless the page that was touched is the source's.
  Status check(uint64_t page) const;

 private:
  FaultStage(RamRegion source, RamRegion target, Mapping guest, Userfault userfault)
      : guest_(std::move(guest)), userfault_(std::move(userfault)) {
    source_.push_back(std::move(source));
    target_.push_back(std::move(target));
  }

  std::vector<RamRegion> source_;
  std::vector<RamRegion> target_;
  Mapping guest_;
  Userfault userfault_;
};

// Every page once, in an order without neighbours; the same in each run.
std::vector<uint64_t> scattered_pages(uint64_t pages, uint64_t count);

}  // namespace vmhop::bench

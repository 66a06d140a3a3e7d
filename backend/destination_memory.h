// The memory of a VM that is arriving: its regions as QEMU maps them, as the pager fills them, and
// the state of each page. The one place where pages change state.
#pragma once

#include <atomic>
#include <optional>
#include <vector>

#include "backend/page_map.h"
#include "backend/page_source.h"
#include "backend/ram_region.h"
#include "backend/userfault.h"

namespace vmhop {

// Any thread may call anything, within the rules of page_map.h about who owns a page.
class DestinationMemory {
 public:
  struct Region {
    RamRegion ram;         // the file and the alias
    uint64_t address = 0;  // where QEMU maps it, in QEMU's address space
    Userfault userfault;   // registered on exactly that mapping
  };

  // `page_map` must outlive this and have the same regions in the same order.
  DestinationMemory(std::vector<Region> regions, PageMap& page_map)
      : regions_(std::move(regions)), page_map_(page_map), counters_(regions_.size()) {}

  std::span<const Region> regions() const { return regions_; }
  PageStates& states(uint32_t region) const { return page_map_.region(region); }
  uint64_t page_size(uint32_t region) const { return regions_[region].ram.info().page_size; }
  uint64_t size(uint32_t region) const { return regions_[region].ram.info().size; }
  PageMap& page_map() const { return page_map_; }

  struct Page {
    uint32_t region;
    uint64_t page;
  };
  // The page of an address in QEMU; empty when it is in no region.
  std::optional<Page> locate(uint64_t address) const;

  PageRange range_of(uint32_t region, uint64_t first_page, uint64_t count) const {
    return {region, first_page * page_size(region), count * page_size(region)};
  }
  std::byte* target_of(const PageRange& range) const {
    return regions_[range.region].ram.alias() + range.offset;
  }

  // For whoever asks how far a region is; each value is right by itself.
  struct Counters {
    std::atomic<uint64_t> resident_pages{0};
    std::atomic<uint64_t> faults{0};  // events read
  };
  const Counters& counters(uint32_t region) const { return counters_[region]; }
  void count_faults(uint32_t region, uint64_t faults) const {
    counters_[region].faults.fetch_add(faults, std::memory_order_relaxed);
  }

  // (owner) The bytes of these pages are complete: filled, installed, resident.
  Status install_read(const PageRange& range) const;
  // (owner) The source has only zeros here. The guest gets them when it asks.
  Status settle_as_hole(const PageRange& range) const;
  // (owner) The read failed and its page source is destroyed: absent again, and whoever waits for
  // these pages faults anew.
  Status give_back(const PageRange& range) const;

  // Answers a fault on a page that needs nothing from the source: filled, resident or a hole.
  Status install_present(const Page& page) const;
  Status install_hole(const Page& page) const;

  // For a pager that takes over from a dead one: what was being read is absent again (the guest
  // never saw it), what was filled is installed. Call before any thread serves faults. Returns how
  // many pages are resident now.
  Result<uint64_t> take_over() const;

  // No page is missing any more: the kernel answers all further faults by itself.
  Status unregister() const;

 private:
  uint64_t address_of(const PageRange& range) const {
    return regions_[range.region].address + range.offset;
  }

  void count_resident(uint32_t region, uint64_t pages) const;

  std::vector<Region> regions_;
  PageMap& page_map_;
  mutable std::vector<Counters> counters_;  // by region
};

}  // namespace vmhop

#include "backend/destination_memory.h"

#include <unistd.h>

namespace vmhop {
namespace {

struct Pages {
  uint64_t first;
  uint64_t count;
};

uint64_t base_page_size() {
  static const auto size = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

Pages pages_of(const PageRange& range, uint64_t page_size) {
  return {range.offset / page_size, range.length / page_size};
}

}  // namespace

std::optional<DestinationMemory::Page> DestinationMemory::locate(uint64_t address) const {
  for (uint32_t index = 0; index < regions_.size(); ++index) {
    const Region& region = regions_[index];
    if (address < region.address || address - region.address >= region.ram.info().size) continue;
    return Page{index, (address - region.address) / region.ram.info().page_size};
  }
  return std::nullopt;
}

void DestinationMemory::count_resident(uint32_t region, uint64_t pages) const {
  counters_[region].resident_pages.fetch_add(pages, std::memory_order_relaxed);
}

Status DestinationMemory::install_read(const PageRange& range) const {
  Pages pages = pages_of(range, page_size(range.region));
  PageStates& page_states = states(range.region);
  page_states.set_filled(pages.first, pages.count);
  VMHOP_TRY(regions_[range.region].userfault.install(address_of(range), range.length,
                                                     page_size(range.region)));
  page_states.set_resident(pages.first, pages.count);
  count_resident(range.region, pages.count);
  return ok_status();
}

Status DestinationMemory::settle_as_hole(const PageRange& range) const {
  Pages pages = pages_of(range, page_size(range.region));
  states(range.region).set_hole(pages.first, pages.count);
  // A fault that came while the page was `reading` was left to its reader: it faults again, and
  // finds the hole.
  return regions_[range.region].userfault.wake(address_of(range), range.length);
}

Status DestinationMemory::give_back(const PageRange& range) const {
  Pages pages = pages_of(range, page_size(range.region));
  states(range.region).give_back(pages.first, pages.count);
  return regions_[range.region].userfault.wake(address_of(range), range.length);
}

Status DestinationMemory::install_present(const Page& page) const {
  uint64_t size = page_size(page.region);
  return regions_[page.region].userfault.install(address_of(range_of(page.region, page.page, 1)),
                                                 size, size);
}

Status DestinationMemory::install_hole(const Page& page) const {
  PageRange range = range_of(page.region, page.page, 1);
  const Userfault& userfault = regions_[page.region].userfault;
  if (range.length == base_page_size()) {
    VMHOP_TRY(userfault.install_zero(address_of(range), range.length));
  } else {
    // Of huge pages the kernel installs no zeros, but it clears the one that the alias touches.
    (void)*static_cast<volatile const std::byte*>(target_of(range));
    VMHOP_TRY(userfault.install(address_of(range), range.length, range.length));
  }
  states(page.region).set_resident(page.page, 1);
  count_resident(page.region, 1);
  return ok_status();
}

Result<uint64_t> DestinationMemory::take_over() const {
  uint64_t resident = 0;
  for (uint32_t region = 0; region < regions_.size(); ++region) {
    PageStates& page_states = states(region);
    for (uint64_t page = 0; page < page_states.pages(); ++page) {
      switch (page_states.get(page)) {
        case PageState::kReading:
          if (auto* checksums = page_map_.checksums(region)) checksums->forget_arrival(page);
          VMHOP_TRY(give_back(range_of(region, page, 1)));
          break;
        case PageState::kFilled:
          VMHOP_TRY(install_present({region, page}));
          page_states.set_resident(page, 1);
          ++resident;
          count_resident(region, 1);
          break;
        case PageState::kResident:
          ++resident;
          count_resident(region, 1);
          break;
        case PageState::kAbsent:
        case PageState::kHole:
          break;
        default:
          return errorf("the page map has an unknown state for page {} of region {}", page,
                        regions_[region].ram.info().id);
      }
    }
    // A fault whose event the dead pager had read is in nobody's queue: let all fault anew.
    VMHOP_TRY(regions_[region].userfault.wake(regions_[region].address,
                                              regions_[region].ram.info().size));
  }
  return resident;
}

Status DestinationMemory::unregister() const {
  for (const Region& region : regions_) {
    VMHOP_TRY(region.userfault.unregister_range(region.address, region.ram.info().size));
  }
  return ok_status();
}

}  // namespace vmhop

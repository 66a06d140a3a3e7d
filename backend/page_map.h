// The state of every page of a VM that is arriving, in a file of the VM's runtime directory, so
// that it outlives pager and supervisor, and a new pager goes on where the old one was.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "backend/base/extents.h"
#include "backend/base/fd.h"
#include "backend/base/mapping.h"
#include "backend/base/result.h"
#include "backend/page_checksums.h"
#include "backend/session/messages.h"

namespace vmhop {

// absent ──claim──▶ reading ──▶ filled ──CONTINUE──▶ resident
//    │                 └──(the source has only zeros)──▶ hole
//    └──(the layout has a hole)────────────────────────▶ hole ──ZEROPAGE──▶ resident
//
// The rules that keep the guest's own writes safe (docs/architecture.md argues them):
//  - One writer a page: whoever moved it absent → reading. Nobody else reads it, copies to it or
//    installs it meanwhile.
//  - `filled` is stored (release) when the bytes are complete and before CONTINUE. From then on
//    nobody ever writes the page through the alias again: the guest may have.
//  - A hole is never written through the alias at all; it is installed as the kernel's zero page,
//    or, when the file has a page there already, as that page.
enum class PageState : uint8_t {
  kAbsent = 0,
  kReading = 1,
  kFilled = 2,
  kResident = 3,
  kHole = 4,
};
const char* page_state_name(PageState state);
const char* destination_state_name(DestinationState state);

// The states of one region's pages. Any thread of any process may call anything, but the calls
// marked (owner) only for pages that it moved to `reading` itself.
//
// Memory order: claim() acquires and every store releases, so that whoever sees `filled` or
// `resident` also sees the bytes, and whoever claims a page that was given back sees that the
// former owner's writes are over.
class PageStates {
 public:
  explicit PageStates(std::span<std::atomic<uint8_t>> states) : states_(states) {}

  uint64_t pages() const { return states_.size(); }
  PageState get(uint64_t page) const {
    return static_cast<PageState>(states_[page].load(std::memory_order_acquire));
  }
  // absent → reading; false when it was anything else.
  bool claim(uint64_t page) { return swap(page, PageState::kAbsent, PageState::kReading); }
  // Claims pages from `first` on until one cannot be claimed or `limit` are; returns how many.
  uint64_t claim_run(uint64_t first, uint64_t limit);

  void set_filled(uint64_t first, uint64_t count) {
    store(first, count, PageState::kFilled);
  }  // (owner)
  void set_resident(uint64_t first, uint64_t count) { store(first, count, PageState::kResident); }
  void set_hole(uint64_t first, uint64_t count) {
    store(first, count, PageState::kHole);
  }  // (owner)
  // reading → absent: the read failed, and whoever could still have written the page is gone.
  void give_back(uint64_t first, uint64_t count) {
    store(first, count, PageState::kAbsent);
  }  // (owner)

  // absent → hole for each page of the range that is absent; returns how many were.
  uint64_t mark_holes(uint64_t first, uint64_t count);

  struct Counts {
    uint64_t absent = 0, reading = 0, filled = 0, resident = 0, hole = 0;
  };
  Counts count() const;

 private:
  bool swap(uint64_t page, PageState from, PageState to) {
    auto expected = static_cast<uint8_t>(from);
    return states_[page].compare_exchange_strong(
        expected, static_cast<uint8_t>(to), std::memory_order_acq_rel, std::memory_order_relaxed);
  }
  void store(uint64_t first, uint64_t count, PageState state) {
    for (uint64_t page = first; page < first + count; ++page) {
      states_[page].store(static_cast<uint8_t>(state), std::memory_order_release);
    }
  }

  std::span<std::atomic<uint8_t>> states_;
};

// The file: a header, one entry a region, then one byte a page; where pages are verified, also
// eight bytes a page for checksums, from the next page boundary on.
class PageMap {
 public:
  // At `path`, where it outlives every process; in a memfd when there is none. Its blocks are
  // allocated, so that a full disk says so here.
  static Result<PageMap> create(std::span<const RegionInfo> regions, const std::string& path = {});
  // Maps a page map made elsewhere; refuses one that does not fit `regions`.
  static Result<PageMap> attach(UniqueFd fd, std::span<const RegionInfo> regions);

  int fd() const { return fd_.get(); }
  size_t region_count() const { return regions_.size(); }
  PageStates& region(size_t index) { return regions_[index]; }

  // Makes room for checksums; nothing if there is some. Before any thread uses the map.
  Status add_checksums();
  // Null when pages are not verified.
  PageChecksums* checksums(size_t region) {
    return checksums_.empty() ? nullptr : &checksums_[region];
  }

  // The destination's side of the commit, and what the VM did before the stop: stored in the same
  // file since a new pager needs them.
  DestinationState destination_state() const;
  void set_destination_state(DestinationState state);
  RunState run_state() const;
  void set_run_state(RunState state);
  // The source has heard the outcome, and nobody has to tell it again.
  bool source_released() const;
  void set_source_released();
  RelocationId relocation() const;
  void set_relocation(const RelocationId& id);

 private:
  struct Header;
  struct RegionEntry;
  static uint64_t states_offset(size_t regions);
  Status map_checksums();
  PageMap(UniqueFd fd, Mapping mapping, std::vector<PageStates> regions)
      : fd_(std::move(fd)), mapping_(std::move(mapping)), regions_(std::move(regions)) {}
  Header& header() const;

  UniqueFd fd_;
  Mapping mapping_;
  std::vector<PageStates> regions_;
  std::optional<Mapping> checksum_mapping_;
  std::vector<PageChecksums> checksums_;  // by region; empty: there is no room for them
};

}  // namespace vmhop

#include "backend/page_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace vmhop {
namespace {

constexpr uint64_t kMagic = 0x50414d504f484d56;  // "VMHOPMAP"
constexpr uint32_t kVersion = 2;

static_assert(std::atomic<uint8_t>::is_always_lock_free && sizeof(std::atomic<uint8_t>) == 1,
              "page states are shared between processes");

uint64_t pages_of(const RegionInfo& region) {
  return region.size / region.page_size;
}

// They are mapped by themselves, so they begin where a page of memory does.
uint64_t checksums_offset(uint64_t end_of_states) {
  static const auto page = static_cast<uint64_t>(::getpagesize());
  return (end_of_states + page - 1) / page * page;
}

uint64_t checksums_size(uint64_t pages) {
  return pages * sizeof(std::atomic<uint64_t>);
}

// Room in a file that is written through a mapping, where a full disk would be a SIGBUS. `who` says
// for what.
Status allocate(int fd, uint64_t size, const std::string& who) {
  int failure = ::posix_fallocate(fd, 0, static_cast<off_t>(size));
  if (failure == 0) return ok_status();
  return Error::from_errno(
      fmt::format(
          "{} needs {} KiB (name another directory in VMHOP_RUNTIME_DIR if there is no room)", who,
          (size + 1023) >> 10),
      failure);
}

// A file that was left there belongs to a VM that is gone.
Result<UniqueFd> create_file(const std::string& path, uint64_t size) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Error::from_errno("replacing " + path, errno);
  }
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) return Error::from_errno("making the page map " + path, errno);
  Status allocated = allocate(fd.get(), size, "the page map " + path + ", a byte for each page,");
  if (!allocated) {
    (void)::unlink(path.c_str());
    return allocated.error();
  }
  return fd;
}

// (create_memfd() seals the size, which add_checksums() changes.)
Result<UniqueFd> create_nameless(uint64_t size) {
  UniqueFd fd(::memfd_create("vmhop-page-map", MFD_CLOEXEC));
  if (!fd.valid()) return Error::from_errno("memfd_create", errno);
  VMHOP_TRY(allocate(fd.get(), size, "the page map"));
  return fd;
}

}  // namespace

struct PageMap::Header {
  uint64_t magic;
  uint32_t version;
  uint32_t regions;
  uint64_t pages;
  std::atomic<uint32_t> destination_state;
  std::atomic<uint32_t> run_state;
  RelocationId relocation;
  std::atomic<uint32_t> source_released;
  uint8_t reserved[12];
};

struct PageMap::RegionEntry {
  uint64_t pages;
  uint32_t page_size;
  uint32_t reserved;
};

uint64_t PageMap::states_offset(size_t regions) {
  static_assert(sizeof(Header) == 64 && sizeof(RegionEntry) == 16);
  return sizeof(Header) + regions * sizeof(RegionEntry);
}

const char* page_state_name(PageState state) {
  switch (state) {
    case PageState::kAbsent:
      return "absent";
    case PageState::kReading:
      return "reading";
    case PageState::kFilled:
      return "filled";
    case PageState::kResident:
      return "resident";
    case PageState::kHole:
      return "hole";
  }
  return "invalid";
}

const char* destination_state_name(DestinationState state) {
  switch (state) {
    case DestinationState::kWaiting:
      return "waiting";
    case DestinationState::kPreparing:
      return "preparing";
    case DestinationState::kLoaded:
      return "loaded";
    case DestinationState::kCommitted:
      return "committed";
    case DestinationState::kDrained:
      return "drained";
    case DestinationState::kEnded:
      return "ended";
    case DestinationState::kReturned:
      return "returned";
    case DestinationState::kAborted:
      return "aborted";
  }
  return "invalid";
}

uint64_t PageStates::claim_run(uint64_t first, uint64_t limit) {
  uint64_t end = std::min(first + limit, pages());
  uint64_t page = first;
  while (page < end && claim(page))
    ++page;
  return page - first;
}

uint64_t PageStates::mark_holes(uint64_t first, uint64_t count) {
  uint64_t marked = 0;
  for (uint64_t page = first; page < first + count; ++page) {
    if (swap(page, PageState::kAbsent, PageState::kHole)) ++marked;
  }
  return marked;
}

PageStates::Counts PageStates::count() const {
  Counts counts;
  for (uint64_t page = 0; page < pages(); ++page) {
    switch (get(page)) {
      case PageState::kAbsent:
        ++counts.absent;
        break;
      case PageState::kReading:
        ++counts.reading;
        break;
      case PageState::kFilled:
        ++counts.filled;
        break;
      case PageState::kResident:
        ++counts.resident;
        break;
      case PageState::kHole:
        ++counts.hole;
        break;
    }
  }
  return counts;
}

PageMap::Header& PageMap::header() const {
  return *reinterpret_cast<Header*>(mapping_.data());
}

Result<PageMap> PageMap::create(std::span<const RegionInfo> regions, const std::string& path) {
  uint64_t pages = 0;
  for (const RegionInfo& region : regions)
    pages += pages_of(region);
  uint64_t size = states_offset(regions.size()) + pages;
  VMHOP_ASSIGN(UniqueFd fd, path.empty() ? create_nameless(size) : create_file(path, size));
  {
    VMHOP_ASSIGN(Mapping mapping, Mapping::map_shared(fd.get(), size, Access::kReadWrite));
    // A fresh file is zeros: every page is absent already.
    auto* header = reinterpret_cast<Header*>(mapping.data());
    header->magic = kMagic;
    header->version = kVersion;
    header->regions = static_cast<uint32_t>(regions.size());
    header->pages = pages;
    header->destination_state.store(static_cast<uint32_t>(DestinationState::kWaiting));
    header->run_state.store(static_cast<uint32_t>(RunState::kRunning));
    auto* entry = reinterpret_cast<RegionEntry*>(mapping.data() + sizeof(Header));
    for (const RegionInfo& region : regions)
      *entry++ = {pages_of(region), region.page_size, 0};
  }
  return attach(std::move(fd), regions);
}

Result<PageMap> PageMap::attach(UniqueFd fd, std::span<const RegionInfo> regions) {
  uint64_t pages = 0;
  for (const RegionInfo& region : regions)
    pages += pages_of(region);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return Error::from_errno("looking at a page map", errno);
  uint64_t size = states_offset(regions.size()) + pages;
  uint64_t with_checksums = checksums_offset(size) + checksums_size(pages);
  bool has_checksums = static_cast<uint64_t>(info.st_size) == with_checksums;
  if (static_cast<uint64_t>(info.st_size) != size && !has_checksums) {
    return errorf("the page map has {} bytes; {} pages need {}", info.st_size, pages, size);
  }
  VMHOP_ASSIGN(Mapping mapping, Mapping::map_shared(fd.get(), size, Access::kReadWrite));
  auto* header = reinterpret_cast<Header*>(mapping.data());
  if (header->magic != kMagic || header->version != kVersion || header->pages != pages ||
      header->regions != regions.size()) {
    return Error("the page map is of another version or another VM");
  }
  const auto* entry = reinterpret_cast<const RegionEntry*>(mapping.data() + sizeof(Header));
  auto* states =
      reinterpret_cast<std::atomic<uint8_t>*>(mapping.data() + states_offset(regions.size()));
  std::vector<PageStates> parts;
  for (const RegionInfo& region : regions) {
    if (entry->pages != pages_of(region) || entry->page_size != region.page_size) {
      return errorf("the page map has {} pages of {} bytes where region {} has {} of {}",
                    entry->pages, entry->page_size, region.id, pages_of(region), region.page_size);
    }
    ++entry;
    parts.emplace_back(std::span(states, pages_of(region)));
    states += pages_of(region);
  }
  PageMap map(std::move(fd), std::move(mapping), std::move(parts));
  if (has_checksums) VMHOP_TRY(map.map_checksums());
  return map;
}

Status PageMap::add_checksums() {
  if (!checksums_.empty()) return ok_status();
  uint64_t size = checksums_offset(mapping_.size()) + checksums_size(header().pages);
  Status allocated =
      allocate(fd_.get(), size, "the page map with checksums, 9 bytes for each page,");
  if (!allocated) {
    // As it was: a page map of another size is nobody's.
    (void)::ftruncate(fd_.get(), static_cast<off_t>(mapping_.size()));
    return allocated.error();
  }
  return map_checksums();
}

Status PageMap::map_checksums() {
  VMHOP_ASSIGN(checksum_mapping_,
               Mapping::map_shared(fd_.get(), checksums_size(header().pages), Access::kReadWrite,
                                   checksums_offset(mapping_.size())));
  auto* slots = reinterpret_cast<std::atomic<uint64_t>*>(checksum_mapping_->data());
  for (const PageStates& region : regions_) {
    checksums_.emplace_back(std::span(slots, region.pages()));
    slots += region.pages();
  }
  return ok_status();
}

DestinationState PageMap::destination_state() const {
  return static_cast<DestinationState>(header().destination_state.load(std::memory_order_acquire));
}

void PageMap::set_destination_state(DestinationState state) {
  header().destination_state.store(static_cast<uint32_t>(state), std::memory_order_release);
}

RunState PageMap::run_state() const {
  return static_cast<RunState>(header().run_state.load(std::memory_order_acquire));
}

void PageMap::set_run_state(RunState state) {
  header().run_state.store(static_cast<uint32_t>(state), std::memory_order_release);
}

bool PageMap::source_released() const {
  return header().source_released.load(std::memory_order_acquire) != 0;
}

void PageMap::set_source_released() {
  header().source_released.store(1, std::memory_order_release);
}

RelocationId PageMap::relocation() const {
  return header().relocation;
}

void PageMap::set_relocation(const RelocationId& id) {
  header().relocation = id;
}

}  // namespace vmhop

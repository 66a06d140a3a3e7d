#include "tests/backend/toy_vmm.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace vmhop::testing_support {
namespace {

std::vector<RegionInfo> infos_of(const std::vector<MemoryImage>& source) {
  std::vector<RegionInfo> infos;
  for (const MemoryImage& image : source)
    infos.push_back(image.info());
  return infos;
}

}  // namespace

ToyVmm::ToyVmm(const std::vector<MemoryImage>& source)
    : page_map_(must(PageMap::create(infos_of(source)))) {
  for (const MemoryImage& image : source) {
    UniqueFd memfd = must(create_memfd("vmhop-test-destination", image.info().size));
    Mapping guest = must(Mapping::map_shared(memfd.get(), image.info().size, Access::kReadWrite));
    Userfault userfault = must(Userfault::open());
    must(userfault.register_range(reinterpret_cast<uint64_t>(guest.data()), guest.size()));
    Memory memory{&image,
                  must(RamRegion::map(image.info(), std::move(memfd), Access::kRead)),
                  std::move(guest),
                  std::move(userfault),
                  {}};
    for (auto& pages : memory.written)
      pages.resize(image.pages());
    memories_.push_back(std::move(memory));
  }
}

ToyVmm::~ToyVmm() {
  stopping_ = true;
  // Whoever still waits for a page goes on: with zeros, but the test is over.
  for (size_t i = 0; i < memories_.size(); ++i) {
    (void)memories_[i].userfault.unregister_range(address(i), memories_[i].guest.size());
  }
  join_guest();
}

std::string ToyVmm::unavailable() {
  auto userfault = Userfault::open();
  return userfault ? "" : userfault.error().message();
}

std::vector<DestinationMemory::Region> ToyVmm::regions() const {
  std::vector<DestinationMemory::Region> regions;
  for (size_t i = 0; i < memories_.size(); ++i) {
    UniqueFd file(::dup(memfd(i)));
    regions.push_back(
        {must(RamRegion::map(memories_[i].image->info(), std::move(file), Access::kReadWrite)),
         address(i), Userfault(UniqueFd(::dup(userfault(i))))});
  }
  return regions;
}

std::vector<int> ToyVmm::memfds() const {
  std::vector<int> all;
  for (const Memory& memory : memories_)
    all.push_back(memory.file.memfd());
  return all;
}

uint64_t ToyVmm::address(size_t region) const {
  return reinterpret_cast<uint64_t>(memories_[region].guest.data());
}

bool ToyVmm::is_populated(size_t region, uint64_t page) const {
  return must(memories_[region].file.is_populated(page * kPage));
}

PageStates::Counts ToyVmm::counts() {
  PageStates::Counts all;
  for (size_t i = 0; i < memories_.size(); ++i) {
    PageStates::Counts part = page_map_.region(i).count();
    all.absent += part.absent;
    all.reading += part.reading;
    all.filled += part.filled;
    all.resident += part.resident;
    all.hole += part.hole;
  }
  return all;
}

void ToyVmm::start_guest(unsigned threads, uint64_t touches, uint64_t seed) {
  for (unsigned writer = 0; writer < threads; ++writer)
    guest_.emplace_back([this, writer, touches, seed] { live(writer, touches, seed); });
}

void ToyVmm::join_guest() {
  for (std::thread& thread : guest_)
    thread.join();
  guest_.clear();
}

void ToyVmm::stop_guest() {
  stopping_ = true;
  join_guest();
  stopping_ = false;
}

void ToyVmm::live(unsigned writer, uint64_t touches, uint64_t seed) {
  Random random(seed * kWriters + writer);
  for (uint64_t i = 0; (touches == 0 || i < touches) && !stopping_; ++i) {
    size_t region = random.below(memories_.size());
    uint64_t pages = memories_[region].image->pages();
    uint64_t page = random.below(pages);
    uint64_t what = random.below(100);
    if (what < 45) {
      check(writer, region, page);
    } else if (what < 95) {
      write(writer, region, page, random.next() | 1);
    } else {
      drop_mapping(region, page, std::min(pages - page, 1 + random.below(32)));
    }
    touches_.fetch_add(1, std::memory_order_relaxed);
  }
}

std::atomic_ref<uint64_t> ToyVmm::word(size_t region, uint64_t page, uint64_t index) const {
  auto* words = reinterpret_cast<uint64_t*>(memories_[region].guest.data() + page * kPage);
  return std::atomic_ref(words[index]);
}

uint64_t ToyVmm::read_word(size_t region, uint64_t page, uint64_t index) const {
  return word(region, page, index).load(std::memory_order_relaxed);
}

uint64_t ToyVmm::expected(size_t region, uint64_t page, uint64_t index) const {
  for (unsigned writer = 0; writer < kWriters; ++writer) {
    uint64_t written = memories_[region].written[writer][page];
    if (written != 0 && index == index_of(writer, page)) return written;
  }
  return memories_[region].image->word(page, index);
}

void ToyVmm::write(unsigned writer, size_t region, uint64_t page, uint64_t value) {
  word(region, page, index_of(writer, page)).store(value, std::memory_order_relaxed);
  memories_[region].written[writer][page] = value;
}

void ToyVmm::check(unsigned writer, size_t region, uint64_t page) {
  const Memory& memory = memories_[region];
  uint64_t mine = index_of(writer, page);
  uint64_t written = memory.written[writer][page];
  uint64_t free_index = (page * 13 % 64) * 8 + 7;
  auto compare = [&](uint64_t index, uint64_t right) {
    if (read_word(region, page, index) != right) note_wrong(region, page, index, "while running");
  };
  compare(mine, written != 0 ? written : memory.image->word(page, mine));
  compare(free_index, memory.image->word(page, free_index));
}

void ToyVmm::note_wrong(size_t region, uint64_t page, uint64_t index, const char* when) {
  ++wrong_;
  std::lock_guard lock(first_wrong_mutex_);
  if (!first_wrong_.empty()) return;
  first_wrong_ =
      fmt::format("{}: region {} page {} word {}, which is {} in the page map", when, region, page,
                  index, page_state_name(page_map_.region(region).get(page)));
}

void ToyVmm::drop_mapping(size_t region, uint64_t page, uint64_t count) {
  std::lock_guard lock(drops_mutex_);
  ::madvise(memories_[region].guest.data() + page * kPage, count * kPage, MADV_DONTNEED);
}

uint64_t ToyVmm::write_mapped_pages() {
  UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  uint64_t written = 0;
  std::lock_guard lock(drops_mutex_);
  for (size_t region = 0; region < memories_.size(); ++region) {
    for (uint64_t page = 0; page < memories_[region].image->pages(); ++page) {
      uint64_t entry = 0;
      auto at = static_cast<off_t>((address(region) / kPage + page) * sizeof entry);
      if (::pread(pagemap.get(), &entry, sizeof entry, at) != sizeof entry) return written;
      bool present = (entry >> 63U) != 0;
      if (!present) continue;
      write(kTestThread, region, page, (page << 32U) + ++written);
    }
  }
  return written;
}

uint64_t ToyVmm::wrong_pages() {
  for (size_t region = 0; region < memories_.size(); ++region) {
    for (uint64_t page = 0; page < memories_[region].image->pages(); ++page) {
      for (uint64_t index = 0; index < kWordsPerPage; ++index) {
        if (read_word(region, page, index) == expected(region, page, index)) continue;
        note_wrong(region, page, index, "at the end");
        break;
      }
    }
  }
  return wrong_;
}

std::string ToyVmm::first_wrong() const {
  std::lock_guard lock(first_wrong_mutex_);
  return first_wrong_;
}

}  // namespace vmhop::testing_support

#include "tests/backend/memory_image.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

namespace vmhop::testing_support {

void must(const Status& status) {
  if (status) return;
  fmt::print(stderr, "{}\n", status.error().message());
  std::abort();
}

uint64_t Random::next() {
  uint64_t mixed_state = state_ += 0x9e3779b97f4a7c15;
  mixed_state = (mixed_state ^ (mixed_state >> 30)) * 0xbf58476d1ce4e5b9;
  mixed_state = (mixed_state ^ (mixed_state >> 27)) * 0x94d049bb133111eb;
  return mixed_state ^ (mixed_state >> 31);
}

PageKind mixed(uint64_t page) {
  switch (page / 32 % 5) {
    case 0:
      return PageKind::kData;
    case 1:
      return page % 2 == 0 ? PageKind::kData : PageKind::kHole;
    case 2:
      return PageKind::kZero;
    case 3:
      return PageKind::kHole;
    default:
      return page % 3 == 0 ? PageKind::kZero : PageKind::kData;
  }
}

MemoryImage::MemoryImage(uint64_t pages, uint64_t seed, const Shape& shape)
    : info_{fmt::format("ram{}", seed), pages * kPage, kPage},
      seed_(seed),
      memfd_(must(create_memfd("vmhop-test-source", pages * kPage))) {
  for (uint64_t page = 0; page < pages; ++page) {
    kinds_.push_back(shape(page));
    if (kinds_.back() == PageKind::kHole) continue;
    std::array<uint64_t, kWordsPerPage> words{};
    for (uint64_t i = 0; i < kWordsPerPage; ++i)
      words[i] = word(page, i);
    auto written =
        ::pwrite(memfd_.get(), words.data(), kPage, static_cast<off_t>(page * uint64_t{kPage}));
    if (written != kPage) must(Error::from_errno("filling a test's memory", errno));
  }
}

uint64_t MemoryImage::data_pages() const {
  return static_cast<uint64_t>(std::count(kinds_.begin(), kinds_.end(), PageKind::kData));
}

uint64_t MemoryImage::word(uint64_t page, uint64_t index) const {
  if (kinds_[page] != PageKind::kData) return 0;
  return Random(seed_ << 48 ^ (page * kWordsPerPage + index)).next() | 1;
}

bool MemoryImage::matches(uint64_t page, const std::byte* bytes) const {
  const auto* words = reinterpret_cast<const uint64_t*>(bytes);
  for (uint64_t i = 0; i < kWordsPerPage; ++i) {
    if (words[i] != word(page, i)) return false;
  }
  return true;
}

RamRegion MemoryImage::exported() const {
  return must(RamRegion::map(info_, must(memfd_.duplicate()), Access::kRead));
}

}  // namespace vmhop::testing_support

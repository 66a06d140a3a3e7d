// The memory of a source VM of which every byte is known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <vector>

#include "backend/ram_region.h"

namespace vmhop::testing_support {

inline constexpr uint32_t kPage = 4096;
inline constexpr uint64_t kWordsPerPage = kPage / sizeof(uint64_t);

enum class PageKind : uint8_t {
  kData,
  kZero,  // populated with zeros
  kHole,
};

class MemoryImage {
 public:
  using Shape = std::function<PageKind(uint64_t page)>;

  // Aborts when the machine has no memory for it.
  MemoryImage(uint64_t pages, uint64_t seed, const Shape& shape);

  const RegionInfo& info() const { return info_; }
  uint64_t pages() const { return kinds_.size(); }
  PageKind kind(uint64_t page) const { return kinds_[page]; }
  uint64_t data_pages() const;
  // What the source has there: 0 in zero pages and holes, never 0 in data.
  uint64_t word(uint64_t page, uint64_t index) const;
  bool matches(uint64_t page, const std::byte* bytes) const;

  // The file, mapped to read, as an exporter has it.
  RamRegion exported() const;

 private:
  RegionInfo info_;
  uint64_t seed_;
  std::vector<PageKind> kinds_;
  UniqueFd memfd_;
};

// Stretches of data, of every other page, of zeros, of holes, and of data with zeros in between.
PageKind mixed(uint64_t page);
inline PageKind all_data(uint64_t /*page*/) {
  return PageKind::kData;
}
inline PageKind all_holes(uint64_t /*page*/) {
  return PageKind::kHole;
}

// The value, or the end of the test program with the error's message: for what tests stand on.
template <typename T>
T must(Result<T> result) {
  if (!result) {
    fmt::print(stderr, "{}\n", result.error().message());
    std::abort();
  }
  return std::move(result).value();
}
void must(const Status& status);

// A fixed sequence for a seed (splitmix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next();
  uint64_t below(uint64_t limit) { return next() % limit; }

 private:
  uint64_t state_;
};

}  // namespace vmhop::testing_support

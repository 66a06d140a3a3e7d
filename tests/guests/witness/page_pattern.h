// What a page of the witness holds: its generation, its index, and a body of which every word
// follows from the two. So a page that is lost, stale, torn or in the wrong place cannot pass for
// the right one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace witness {

constexpr size_t kPageSize = 4096;
constexpr size_t kWordsPerPage = kPageSize / sizeof(uint64_t);

struct Mismatch {
  size_t word;
  uint64_t expected;
  uint64_t got;
};

// One multiplication and one addition a word: under TCG every guest instruction counts.
class BodyWords {
 public:
  BodyWords(uint64_t index, uint64_t generation)
      : state_((index + 1) * 0x9e3779b97f4a7c15 ^ (generation + 1) * 0xd1342543de82ef95) {}
  uint64_t Next() { return state_ = state_ * 6364136223846793005 + 1442695040888963407; }

 private:
  uint64_t state_;
};

inline void FillPage(uint64_t* page, uint64_t index, uint64_t generation) {
  BodyWords body(index, generation);
  page[0] = generation;
  page[1] = index;
  for (size_t word = 2; word < kWordsPerPage; ++word)
    page[word] = body.Next();
}

inline std::optional<Mismatch> CheckPage(const uint64_t* page, uint64_t index,
                                         uint64_t generation) {
  BodyWords body(index, generation);
  for (size_t word = 0; word < kWordsPerPage; ++word) {
    const uint64_t expected = word == 0 ? generation : word == 1 ? index : body.Next();
    const uint64_t got = page[word];
    if (got != expected) return Mismatch{word, expected, got};
  }
  return std::nullopt;
}

inline std::optional<Mismatch> CheckZeroPage(const uint64_t* page) {
  for (size_t word = 0; word < kWordsPerPage; ++word) {
    const uint64_t got = page[word];
    if (got != 0) return Mismatch{word, 0, got};
  }
  return std::nullopt;
}

}  // namespace witness

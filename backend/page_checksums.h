// What is known of each page's checksum: what the source announced, and what arrived here. Part of
// the page map's file, since a page that the guest may have written cannot be asked again: a pager
// that takes over needs what its predecessor saw.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

namespace vmhop {

// One region's. Any thread of any process may call anything.
//
// A slot is one word, changed in one step: its upper half says what the lower half, a CRC32C, is.
// Whoever comes second, arrival or announcement, compares; so each page is compared exactly once.
class PageChecksums {
 public:
  explicit PageChecksums(std::span<std::atomic<uint64_t>> slots) : slots_(slots) {}

  enum class Verdict : uint8_t {
    kUnknown,  // only one of the two is known yet
    kRight,
    kWrong,
  };

  uint64_t pages() const { return slots_.size(); }

  // These bytes are about to be installed; call it before they are, and do not install what is
  // wrong. What is wrong is forgotten again: the page may arrive anew.
  Verdict arrived(uint64_t page, uint32_t crc);
  enum class Announcement : uint8_t {
    kFirst,     // the page has not arrived
    kVerified,  // it is here, and right
    kWrong,     // other bytes are here, and the guest may have seen them; said once for a page
    kRepeated,  // it was announced before: the source begins anew after a lost link
  };
  // What the source has.
  Announcement announced(uint64_t page, uint32_t crc);
  // The page was not installed after all, and will arrive anew.
  void forget_arrival(uint64_t page);

  struct Counts {
    uint64_t announced = 0;  // whether or not it has arrived
    uint64_t verified = 0;
    uint64_t wrong = 0;
    uint64_t unannounced = 0;  // installed, and the source has said nothing of it
  };
  // Pages that arrived with the checksum `zeros` do not count as unannounced: the source announces
  // no holes.
  Counts count(uint32_t zeros) const;

 private:
  std::span<std::atomic<uint64_t>> slots_;
};

}  // namespace vmhop

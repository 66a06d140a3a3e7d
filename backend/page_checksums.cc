#include "backend/page_checksums.h"

namespace vmhop {
namespace {

enum class Known : uint32_t {
  kNothing = 0,
  kAnnounced = 1,
  kArrived = 2,
  kVerified = 3,
  kWrong = 4,  // the checksum is that of what arrived
};

constexpr uint64_t slot_of(Known known, uint32_t crc) {
  return uint64_t{static_cast<uint32_t>(known)} << 32 | crc;
}
constexpr Known known_of(uint64_t slot) {
  return static_cast<Known>(slot >> 32);
}
constexpr uint32_t crc_of(uint64_t slot) {
  return static_cast<uint32_t>(slot);
}

static_assert(std::atomic<uint64_t>::is_always_lock_free && sizeof(std::atomic<uint64_t>) == 8,
              "checksums are shared between processes");

}  // namespace

PageChecksums::Verdict PageChecksums::arrived(uint64_t page, uint32_t crc) {
  std::atomic<uint64_t>& slot = slots_[page];
  uint64_t seen = slot.load(std::memory_order_acquire);
  for (;;) {
    bool source_spoke = known_of(seen) == Known::kAnnounced || known_of(seen) == Known::kVerified;
    if (source_spoke && crc_of(seen) != crc) return Verdict::kWrong;
    uint64_t next = slot_of(source_spoke ? Known::kVerified : Known::kArrived, crc);
    if (slot.compare_exchange_weak(seen, next, std::memory_order_acq_rel)) {
      return source_spoke ? Verdict::kRight : Verdict::kUnknown;
    }
  }
}

PageChecksums::Announcement PageChecksums::announced(uint64_t page, uint32_t crc) {
  std::atomic<uint64_t>& slot = slots_[page];
  uint64_t seen = slot.load(std::memory_order_acquire);
  for (;;) {
    Announcement made = Announcement::kFirst;
    uint64_t next = slot_of(Known::kAnnounced, crc);
    switch (known_of(seen)) {
      case Known::kVerified:
      case Known::kWrong:
        return Announcement::kRepeated;
      case Known::kArrived: {
        bool right = crc_of(seen) == crc;
        made = right ? Announcement::kVerified : Announcement::kWrong;
        next = slot_of(right ? Known::kVerified : Known::kWrong, crc_of(seen));
        break;
      }
      case Known::kAnnounced:
        made = Announcement::kRepeated;
        break;
      case Known::kNothing:
        break;
    }
    if (slot.compare_exchange_weak(seen, next, std::memory_order_acq_rel)) return made;
  }
}

void PageChecksums::forget_arrival(uint64_t page) {
  std::atomic<uint64_t>& slot = slots_[page];
  uint64_t seen = slot.load(std::memory_order_acquire);
  for (;;) {
    uint64_t next = seen;
    if (known_of(seen) == Known::kVerified) next = slot_of(Known::kAnnounced, crc_of(seen));
    // Of a wrong one it is not known any more what the source had: it is announced again.
    if (known_of(seen) == Known::kArrived || known_of(seen) == Known::kWrong) next = 0;
    if (slot.compare_exchange_weak(seen, next, std::memory_order_acq_rel)) return;
  }
}

PageChecksums::Counts PageChecksums::count(uint32_t zeros) const {
  Counts counts;
  for (const std::atomic<uint64_t>& each : slots_) {
    uint64_t slot = each.load(std::memory_order_acquire);
    switch (known_of(slot)) {
      case Known::kVerified:
        ++counts.announced;
        ++counts.verified;
        break;
      case Known::kWrong:
        ++counts.announced;
        ++counts.wrong;
        break;
      case Known::kArrived:
        if (crc_of(slot) != zeros) ++counts.unannounced;
        break;
      case Known::kAnnounced:
        ++counts.announced;
        break;
      case Known::kNothing:
        break;
    }
  }
  return counts;
}

}  // namespace vmhop

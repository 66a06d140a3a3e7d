// What travels on a lane of the TCP page source: requests one way, replies in the same order the
// other way. Little-endian; no field is trusted on arrival.
#pragma once

#include <bit>
#include <cstdint>

namespace vmhop::tcp {

static_assert(std::endian::native == std::endian::little, "wire structs are used in place");

inline constexpr uint32_t kRequestMagic = 0x52484d56;  // "VMHR"
inline constexpr uint32_t kReplyMagic = 0x50484d56;    // "VMHP"
// Bounds what one side has to hold for the other.
inline constexpr uint32_t kMaxRangesPerRequest = 256;
inline constexpr uint32_t kMaxRangeLength = 4 << 20;  // or one page, if that is larger
// A reply has a run for each change between data and zeros: no more than one a page.
inline constexpr uint32_t kMaxRunsPerReply = kMaxRangeLength / 4096;
// No part of the protocol: about what either end gives to one system call. Where the kernel is not
// preempted in it (PREEMPT_NONE) a fault's thread waits that long, and a shaped link takes no more
// at once anyway: with whole answers of 256 KiB a fault beside precaching had a p99 of 2.1 ms, with
// pieces 1.1 to 1.7, and a link of 5 Gbit/s was half empty (docs/performance.md).
inline constexpr uint32_t kPiece = 64 << 10;

// Followed by `ranges` entries of RequestRange.
struct RequestHeader {
  uint32_t magic;
  uint32_t ranges;
};
static_assert(sizeof(RequestHeader) == 8);

struct RequestRange {
  uint32_t region;
  uint32_t length;  // bytes, whole pages
  uint64_t offset;
};
static_assert(sizeof(RequestRange) == 16);

// One for each requested range, followed by `runs` entries of ReplyRun and the bytes of the data
// runs. The runs cover the range in order.
struct ReplyHeader {
  uint32_t magic;
  uint32_t runs;
};
static_assert(sizeof(ReplyHeader) == 8);

enum class RunKind : uint16_t { kData = 1, kZero = 2 };

struct ReplyRun {
  uint32_t length;  // bytes, whole pages
  uint16_t kind;
  uint16_t reserved;  // 0
};
static_assert(sizeof(ReplyRun) == 8);

// The source's answer to a range it does not have: `runs` is this and the lane is closed.
inline constexpr uint32_t kRefusedRuns = 0xffffffff;

}  // namespace vmhop::tcp

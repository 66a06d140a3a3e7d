// The narrow waist: where the pages of a VM that is arriving come from. TCP implements it, RDMA
// will, and the tests wrap it to inject faults; the pager never knows which one it has.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/base/result.h"

namespace vmhop {

// Pages of one region of the source: whole pages, not empty.
struct PageRange {
  uint32_t region = 0;
  uint64_t offset = 0;  // bytes
  uint64_t length = 0;  // bytes
  bool operator==(const PageRange&) const = default;
};

struct PageRead {
  PageRange range;
  // Where the pages are in this process: range.length bytes, the source's to write until they
  // arrive, here or through the file that is mapped here.
  std::byte* target = nullptr;
  // There is, or may be, unpopulated memory in the same huge page: it is to remain so.
  bool beside_holes = true;
};

// What came of a read, or of a part of it.
enum class Content : uint8_t {
  kData,  // the bytes are there, all of them
  kZero,  // the source has only zeros, or a hole: nothing was written
};
struct PageArrival {
  PageRange range;
  Content content = Content::kData;
};

// One connection, or one queue pair, to the source's memory, with reads in flight on it. Owned and
// called by one thread.
//
// A read is answered by one or more arrivals that together cover it, in any order; none spans two
// reads, and nothing arrives that was not asked for. An error of any call means that the page
// source is done for: of the reads that have not arrived, none will, and their targets may have
// been written in part. Once it is destroyed nothing is written any more, and the same pages may be
// read elsewhere.
class PageSource {
 public:
  PageSource() = default;
  PageSource(const PageSource&) = delete;
  PageSource& operator=(const PageSource&) = delete;
  virtual ~PageSource() = default;

  // Starts reads; many at once cost one system call or one doorbell.
  virtual Status post(std::span<const PageRead> reads) = 0;
  // Takes what has arrived, without waiting; returns how many entries it filled.
  virtual Result<size_t> poll(std::span<PageArrival> arrivals) = 0;

  // Before waiting: false when there is something to be taken by poll() first; true when wait_fd()
  // tells of all there is and will be. (A completion queue has to be asked to.)
  virtual Result<bool> may_wait() { return true; }
  // The descriptor to poll() on, and for what, when there is nothing to do.
  virtual int wait_fd() const = 0;
  virtual short wait_events() const = 0;
};

}  // namespace vmhop

// The page source over one TCP connection: pipelined requests of ranges.
//
// Page data goes to the targets, or by way of a small buffer and pwrite() to the memory file. The
// latter takes half the CPU time (bench/fill_memory), since the kernel neither clears the page
// first nor is told of it by a page fault; but whoever writes to a file keeps others from it
// meanwhile.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "backend/base/ring.h"
#include "backend/page_source.h"
#include "backend/session/byte_stream.h"
#include "backend/tcp/wire.h"

namespace vmhop {

class TcpPageSource final : public PageSource {
 public:
  struct Region {
    uint32_t page_size = 4096;  // the unit in which the peer may split an answer
    // To be written to, at the pages' offsets; not owned. -1: its pages go to the targets, as they
    // must where a file cannot be written (hugetlbfs), and should where one page is urgent.
    int memfd = -1;
  };

  TcpPageSource(std::unique_ptr<ByteStream> stream, std::vector<Region> regions)
      : stream_(std::move(stream)), regions_(std::move(regions)) {}

  Status post(std::span<const PageRead> reads) override;
  Result<size_t> poll(std::span<PageArrival> arrivals) override;
  Result<bool> may_wait() override;
  int wait_fd() const override { return stream_->fd(); }
  short wait_events() const override;

 private:
  // Where the reply under way is: its header with the first run, its further runs, its data.
  enum class Stage { kHeader, kRuns, kData };

  Status flush();
  Result<bool> receive();  // true when more may be there
  size_t expected_input() const;
  Status accept_header();
  Status accept_runs();
  std::span<std::byte> room_for_data();
  Status take_data(size_t received);
  void keep_holes_around(std::byte* target, uint64_t length) const;
  Status write_pages(uint64_t length);
  // That is being answered for.
  const Region& region() const { return regions_[outstanding_.front().range.region]; }
  uint32_t page_size() const { return region().page_size; }
  void skip_zero_runs();
  size_t emit(std::span<PageArrival> arrivals);

  struct Head {
    tcp::ReplyHeader header;
    tcp::ReplyRun first;
  };

  std::unique_ptr<ByteStream> stream_;
  std::vector<Region> regions_;
  std::vector<std::byte> buffer_;  // of page data: the run's bytes from run_reported_ on

  std::vector<std::byte> unsent_;  // requests that the socket did not take at once
  std::vector<std::byte> outgoing_;

  Ring<PageRead> outstanding_;  // oldest first: the peer answers in order
  Stage stage_ = Stage::kHeader;
  Head head_{};
  size_t stage_received_ = 0;  // bytes of the stage's own structure
  std::vector<tcp::ReplyRun> runs_;
  size_t run_ = 0;             // the run under way
  uint64_t run_received_ = 0;  // of its bytes
  uint64_t run_reported_ = 0;  // of them, what poll() has handed out
  uint64_t read_done_ = 0;     // bytes of the oldest read before that run
  Ring<PageArrival> ready_;
};

}  // namespace vmhop

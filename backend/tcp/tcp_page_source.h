// The page source over one TCP connection: pipelined requests of ranges, page data received
// straight into the targets.
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
  // `page_sizes` are the regions': the unit in which the peer may split an answer.
  TcpPageSource(std::unique_ptr<ByteStream> stream, std::vector<uint32_t> page_sizes)
      : stream_(std::move(stream)), page_sizes_(std::move(page_sizes)) {}

  Status post(std::span<const PageRead> reads) override;
  Result<size_t> poll(std::span<PageArrival> arrivals) override;
  int wait_fd() const override { return stream_->fd(); }
  short wait_events() const override;

 private:
  // Where the reply under way is: its header with the first run, its further runs, its data.
  enum class Stage { kHeader, kRuns, kData };

  Status flush();
  Result<bool> receive();  // true when something came
  Status accept_header();
  Status accept_runs();
  void take_data(size_t received);
  // Of the region that is being answered for.
  uint32_t page_size() const { return page_sizes_[outstanding_.front().range.region]; }
  void skip_zero_runs();
  size_t emit(std::span<PageArrival> arrivals);

  struct Head {
    tcp::ReplyHeader header;
    tcp::ReplyRun first;
  };

  std::unique_ptr<ByteStream> stream_;
  std::vector<uint32_t> page_sizes_;

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

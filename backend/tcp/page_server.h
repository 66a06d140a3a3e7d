// The source's end of the TCP page lanes: answers requests of ranges from the stopped VM's memory.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "backend/base/adaptive_poll.h"
#include "backend/base/fd.h"
#include "backend/ram_region.h"
#include "backend/session/byte_stream.h"
#include "backend/tcp/wire.h"

namespace vmhop {

// What is populated, as far as known: replaced as a whole when the final layout is there.
struct SourceLayout {
  std::vector<ExtentList> extents;  // one list a region
};

struct PageServerCounters {
  std::atomic<uint64_t> requests{0};
  std::atomic<uint64_t> bytes_sent{0};  // page data
  std::atomic<uint64_t> zero_pages{0};  // answered without sending them
};

// Memory that lanes read; shared by all of them. The regions must outlive every lane.
class PageStore {
 public:
  explicit PageStore(std::span<const RamRegion> regions) : regions_(regions) {}

  std::span<const RamRegion> regions() const { return regions_; }
  // From any thread.
  void set_layout(std::shared_ptr<const SourceLayout> layout);
  std::shared_ptr<const SourceLayout> layout() const;

 private:
  std::span<const RamRegion> regions_;
  mutable std::mutex layout_mutex_;  // guards the pointer
  std::shared_ptr<const SourceLayout> layout_;
};

// Serves one lane in a thread of its own until the peer closes it or the server is destroyed.
class PageServer {
 public:
  enum class Pace {
    kFaults,  // polls briefly before it sleeps: each request is somebody waiting
    kBulk,
  };
  // `on_closed` is called once, from the server's thread, when the lane ends by itself.
  static Result<std::unique_ptr<PageServer>> start(std::unique_ptr<ByteStream> stream,
                                                   const PageStore& store, Pace pace,
                                                   PageServerCounters& counters,
                                                   std::function<void(Error)> on_closed);
  ~PageServer();

 private:
  PageServer(std::unique_ptr<ByteStream> stream, const PageStore& store, Pace pace,
             PageServerCounters& counters, EventFd stop)
      : stream_(std::move(stream)),
        store_(store),
        pace_(pace),
        counters_(counters),
        stop_(std::move(stop)) {}

  Status serve();
  Status receive_exactly(std::span<std::byte> buffer);
  Status wait(short events);
  Status answer(const tcp::RequestRange& range);
  Status refuse();
  Status send_all(std::span<iovec> buffers);

  std::unique_ptr<ByteStream> stream_;
  const PageStore& store_;
  Pace pace_;
  PageServerCounters& counters_;
  EventFd stop_;
  std::atomic<bool> stopping_{false};
  AdaptiveSpin spin_;
  std::vector<tcp::ReplyRun> runs_;
  std::vector<iovec> buffers_;
  std::thread thread_;
};

}  // namespace vmhop

// Tells the destination the checksum of every populated page of a stopped VM, in the background.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/base/event_loop.h"
#include "backend/base/worker.h"
#include "backend/ram_region.h"
#include "backend/session/messages.h"
#include "backend/tcp/page_server.h"

namespace vmhop {

// Belongs to the loop's thread; computes in one of its own, a batch ahead of what was sent.
class ChecksumAnnouncer {
 public:
  // `send` is called in the loop's thread. The regions must outlive this.
  ChecksumAnnouncer(EventLoop& loop, std::span<const RamRegion> regions,
                    std::function<void(const Checksums&)> send);
  ~ChecksumAnnouncer();

  // From the first page on, anew if it was under way: of what the final layout says is populated.
  void start(std::shared_ptr<const SourceLayout> layout);
  // The link is down: nothing is sent until the next start().
  void stop();
  // The session has more to send than it should queue, or has caught up.
  void hold(bool held);

 private:
  struct Position {
    uint32_t region = 0;
    size_t extent = 0;
    uint64_t offset = 0;  // bytes, within the extent
  };

  void compute_next();
  // Takes the batch at `at` and moves it on.
  static Checksums take_batch(std::span<const RamRegion> regions, const SourceLayout& layout,
                              Position& at);

  EventLoop& loop_;
  std::span<const RamRegion> regions_;
  std::function<void(const Checksums&)> send_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::shared_ptr<const SourceLayout> layout_;  // null: stopped
  Position position_;
  uint64_t course_ = 0;  // counts starts and stops: a batch of an earlier one is nobody's
  bool computing_ = false;
  bool held_ = false;
  bool done_ = false;
  std::unique_ptr<Worker> worker_;
};

}  // namespace vmhop

#include "backend/checksum_announcer.h"

#include <algorithm>

#include "backend/base/crc32c.h"
#include "backend/base/thread_role.h"
#include "backend/session/limits.h"

namespace vmhop {
namespace {

// A batch: large enough that handing it over costs nothing beside it, small enough that pages are
// announced about when they travel.
constexpr uint64_t kBatchBytes = 16 << 20;
static_assert(kBatchBytes / 4096 <= kMaxChecksumsPerMessage);

}  // namespace

ChecksumAnnouncer::ChecksumAnnouncer(EventLoop& loop, std::span<const RamRegion> regions,
                                     std::function<void(const Checksums&)> send)
    : loop_(loop), regions_(regions), send_(std::move(send)), worker_(std::make_unique<Worker>()) {
  worker_->post([] { begin_thread("vmhop-checksum", ThreadRole::kBulk); });
}

ChecksumAnnouncer::~ChecksumAnnouncer() {
  *alive_ = false;
  worker_.reset();
}

void ChecksumAnnouncer::start(std::shared_ptr<const SourceLayout> layout) {
  stop();
  layout_ = std::move(layout);
  position_ = {};
  done_ = false;
  compute_next();
}

void ChecksumAnnouncer::stop() {
  ++course_;
  layout_.reset();
  computing_ = false;
}

void ChecksumAnnouncer::hold(bool held) {
  held_ = held;
  compute_next();
}

void ChecksumAnnouncer::compute_next() {
  if (!layout_ || done_ || held_ || computing_) return;
  computing_ = true;
  worker_->post([this, &loop = loop_, alive = alive_, course = course_, layout = layout_,
                 regions = regions_, at = position_]() mutable {
    auto batch = std::make_shared<Checksums>(take_batch(regions, *layout, at));
    loop.post([this, alive, course, batch, at] {
      if (!*alive || course != course_) return;
      computing_ = false;
      position_ = at;
      done_ = batch->last;
      send_(*batch);
      compute_next();
    });
  });
}

Checksums ChecksumAnnouncer::take_batch(std::span<const RamRegion> regions,
                                        const SourceLayout& layout, Position& at) {
  Checksums batch;
  while (at.region < regions.size() && at.extent == layout.extents[at.region].size()) {
    ++at.region;
    at.extent = 0;
  }
  if (at.region == regions.size()) {
    batch.last = true;
    return batch;
  }
  const RamRegion& region = regions[at.region];
  const Extent& extent = layout.extents[at.region][at.extent];
  uint64_t page_size = region.info().page_size;
  uint64_t length = std::min(std::max(kBatchBytes, page_size), extent.length - at.offset);
  batch.region = at.region;
  batch.offset = extent.offset + at.offset;
  batch.pages.reserve(length / page_size);
  for (uint64_t done = 0; done < length; done += page_size) {
    batch.pages.push_back(crc32c({region.alias() + batch.offset + done, page_size}));
  }
  at.offset += length;
  if (at.offset == extent.length) {
    ++at.extent;
    at.offset = 0;
  }
  return batch;
}

}  // namespace vmhop

#include "backend/tcp/page_server.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "backend/base/thread_role.h"
#include "backend/base/zero_page.h"

namespace vmhop {
namespace {

constexpr size_t kMaxBuffersPerSend = 256;

Error stopped() {
  return Error("stopped", ErrorKind::kAborted);
}

}  // namespace

void PageStore::set_layout(std::shared_ptr<const SourceLayout> layout) {
  std::lock_guard lock(layout_mutex_);
  layout_ = std::move(layout);
}

std::shared_ptr<const SourceLayout> PageStore::layout() const {
  std::lock_guard lock(layout_mutex_);
  return layout_;
}

Result<std::unique_ptr<PageServer>> PageServer::start(std::unique_ptr<ByteStream> stream,
                                                      const PageStore& store, Pace pace,
                                                      PageServerCounters& counters,
                                                      std::function<void(Error)> on_closed) {
  VMHOP_ASSIGN(EventFd stop, EventFd::create());
  std::unique_ptr<PageServer> server(
      new PageServer(std::move(stream), store, pace, counters, std::move(stop)));
  server->thread_ = std::thread([raw = server.get(), on_closed = std::move(on_closed)] {
    bool faults = raw->pace_ == Pace::kFaults;
    begin_thread(faults ? "vmhop-fault" : "vmhop-bulk",
                 faults ? ThreadRole::kFault : ThreadRole::kBulk);
    Status end = raw->serve();
    if (!raw->stopping_ && !end) on_closed(end.error());
  });
  return server;
}

PageServer::~PageServer() {
  stopping_ = true;
  stop_.notify();
  thread_.join();
}

Status PageServer::serve() {
  std::vector<tcp::RequestRange> ranges;
  while (!stopping_) {
    tcp::RequestHeader header{};
    VMHOP_TRY(receive_exactly(std::as_writable_bytes(std::span(&header, 1))));
    if (header.magic != tcp::kRequestMagic || header.ranges == 0 ||
        header.ranges > tcp::kMaxRangesPerRequest) {
      return Error("a page request makes no sense: wrong magic number or number of ranges");
    }
    ranges.resize(header.ranges);
    VMHOP_TRY(receive_exactly(std::as_writable_bytes(std::span(ranges))));
    for (const tcp::RequestRange& range : ranges)
      VMHOP_TRY(answer(range));
    counters_.requests.fetch_add(ranges.size(), std::memory_order_relaxed);
  }
  return stopped();
}

Status PageServer::receive_exactly(std::span<std::byte> buffer) {
  while (!buffer.empty()) {
    VMHOP_ASSIGN(size_t got, stream_->read_some(buffer));
    buffer = buffer.subspan(got);
    if (got == 0) VMHOP_TRY(wait(POLLIN));
  }
  return ok_status();
}

Status PageServer::wait(short events) {
  std::array<pollfd, 2> polled{{{stream_->fd(), events, 0}, {stop_.fd(), POLLIN, 0}}};
  auto ready_now = [&polled] { return ::poll(polled.data(), polled.size(), 0) > 0; };
  bool spins = pace_ == Pace::kFaults && events == POLLIN;
  if (!spins || !spin_.spin(ready_now)) {
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) {
      return Error::from_errno("poll", errno);
    }
    if (spins) spin_.end_sleep();
  }
  if (polled[1].revents != 0) return stopped();
  return ok_status();
}

Status PageServer::answer(const tcp::RequestRange& range) {
  // Here since a peer that reads as fast as it asks never makes us wait.
  if (stopping_) return stopped();
  std::span<const RamRegion> regions = store_.regions();
  if (range.region >= regions.size()) return refuse();
  const RamRegion& region = regions[range.region];
  uint32_t page_size = region.info().page_size;
  if (range.length == 0 || range.length > std::max(tcp::kMaxRangeLength, page_size) ||
      range.length % page_size != 0 || range.offset % page_size != 0 ||
      range.offset > region.info().size || range.length > region.info().size - range.offset) {
    return refuse();
  }

  std::shared_ptr<const SourceLayout> layout = store_.layout();
  std::span<const Extent> extents;  // none known: each page is looked up
  if (layout && range.region < layout->extents.size()) extents = layout->extents[range.region];
  size_t next = find_extent(extents, range.offset);
  runs_.clear();
  for (uint64_t offset = range.offset; offset < range.offset + range.length; offset += page_size) {
    while (next < extents.size() && extents[next].end() <= offset)
      ++next;
    bool populated = next < extents.size() && extents[next].offset <= offset;
    if (!populated) {
      // Came after the layout was made, or is a hole. Looking through the mapping would populate
      // it.
      VMHOP_ASSIGN(populated, region.is_populated(offset));
    }
    bool data = populated && !is_zero(region.alias() + offset, page_size);
    auto kind = static_cast<uint16_t>(data ? tcp::RunKind::kData : tcp::RunKind::kZero);
    if (!runs_.empty() && runs_.back().kind == kind) {
      runs_.back().length += page_size;
    } else {
      runs_.push_back({page_size, kind, 0});
    }
  }

  tcp::ReplyHeader header{tcp::kReplyMagic, static_cast<uint32_t>(runs_.size())};
  buffers_.clear();
  buffers_.push_back({&header, sizeof header});
  buffers_.push_back({runs_.data(), runs_.size() * sizeof(tcp::ReplyRun)});
  uint64_t offset = range.offset;
  for (const tcp::ReplyRun& run : runs_) {
    if (run.kind == static_cast<uint16_t>(tcp::RunKind::kData)) {
      for (uint64_t at = 0; at < run.length; at += tcp::kPiece)
        buffers_.push_back(
            {region.alias() + offset + at, std::min<uint64_t>(tcp::kPiece, run.length - at)});
      counters_.bytes_sent.fetch_add(run.length, std::memory_order_relaxed);
    } else {
      counters_.zero_pages.fetch_add(run.length / page_size, std::memory_order_relaxed);
    }
    offset += run.length;
  }
  return send_all(buffers_);
}

Status PageServer::refuse() {
  // A head is always header and first run: the peer reads both before it looks.
  tcp::ReplyHeader header{tcp::kReplyMagic, tcp::kRefusedRuns};
  tcp::ReplyRun none{};
  std::array<iovec, 2> buffers{{{&header, sizeof header}, {&none, sizeof none}}};
  VMHOP_TRY(send_all(buffers));
  return refusedf("the destination asked for pages that this VM does not have");
}

Status PageServer::send_all(std::span<iovec> buffers) {
  while (!buffers.empty()) {
    size_t count = 0;
    for (size_t bytes = 0;
         count < std::min(buffers.size(), kMaxBuffersPerSend) && bytes < tcp::kPiece;)
      bytes += buffers[count++].iov_len;
    VMHOP_ASSIGN(size_t sent, stream_->write_some(buffers.data(), count));
    if (sent == 0) {
      VMHOP_TRY(wait(POLLOUT));
      continue;
    }
    while (!buffers.empty() && sent >= buffers.front().iov_len) {
      sent -= buffers.front().iov_len;
      buffers = buffers.subspan(1);
    }
    if (sent > 0) {
      buffers.front().iov_base = static_cast<std::byte*>(buffers.front().iov_base) + sent;
      buffers.front().iov_len -= sent;
    }
  }
  return ok_status();
}

}  // namespace vmhop

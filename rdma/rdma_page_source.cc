#include "rdma/rdma_page_source.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace vmhop::rdma {
namespace {

// Long enough that a work request's overhead does not show (bench/rdma_read has the figures), short
// enough that a fault, which may find one of them in front of it on the wire, hardly notices.
constexpr uint64_t kBulkPiece = 64 << 10;
constexpr uint64_t kFaultPiece = 4 << 10;
// Of a bulk connection's reads every so many bytes are signalled, and the last of each post.
constexpr uint64_t kSignalBytes = 64 << 10;
constexpr size_t kBounceSlots = 16;
// Work requests for one doorbell.
constexpr size_t kBurst = 32;

}  // namespace

Result<std::unique_ptr<RdmaPageSource>> RdmaPageSource::create(
    Connection connection, std::shared_ptr<const ImportedMemory> memory, Use use,
    std::unique_ptr<PageSource> by_name) {
  std::unique_ptr<RdmaPageSource> source(
      new RdmaPageSource(std::move(connection), std::move(memory), use, std::move(by_name)));
  VMHOP_TRY(source->prepare());
  return source;
}

Status RdmaPageSource::prepare() {
  uint64_t largest_page = 0;
  for (uint32_t size : memory_->page_sizes)
    largest_page = std::max<uint64_t>(largest_page, size);
  piece_bytes_ = use_ == Use::kFaults ? kFaultPiece : kBulkPiece;
  slot_bytes_ = std::max(piece_bytes_, largest_page);
  bounce_.resize(slot_bytes_ * kBounceSlots);
  VMHOP_ASSIGN(bounce_region_, MemoryRegion::create(connection_.domain, bounce_.data(),
                                                    bounce_.size(), IBV_ACCESS_LOCAL_WRITE));
  for (uint32_t slot = 0; slot < kBounceSlots; ++slot)
    free_slots_.push_back(slot);
  requests_.resize(kBurst);
  targets_.resize(kBurst);

  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return Error::from_errno("epoll_create1", errno);
  VMHOP_TRY(watch(connection_.completions.fd(), EPOLLIN, EPOLL_CTL_ADD));
  VMHOP_TRY(watch(connection_.events.fd(), EPOLLIN, EPOLL_CTL_ADD));
  if (memory_->watch) VMHOP_TRY(watch(memory_->watch->fd(), EPOLLIN, EPOLL_CTL_ADD));
  if (by_name_) {
    by_name_events_ = static_cast<uint32_t>(by_name_->wait_events());
    VMHOP_TRY(watch(by_name_->wait_fd(), by_name_events_, EPOLL_CTL_ADD));
  }
  return ok_status();
}

// The queue pair goes first: only then does nobody write any more.
RdmaPageSource::~RdmaPageSource() {
  connection_.id.destroy_queue_pair();
}

short RdmaPageSource::wait_events() const {
  return POLLIN;
}

// epoll's event bits are poll's.
Status RdmaPageSource::watch(int fd, uint32_t events, int operation) const {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0) {
    return Error::from_errno("epoll_ctl", errno);
  }
  return ok_status();
}

Status RdmaPageSource::fail(const Error& error) {
  if (!failure_) failure_ = error;
  return *failure_;
}

Status RdmaPageSource::post(std::span<const PageRead> reads) {
  if (failure_) return *failure_;
  for (const PageRead& read : reads)
    VMHOP_TRY(enqueue(read));
  VMHOP_TRY(ask_by_name());
  return pump();
}

// Cuts a read where a key ends, and into pieces of whole pages.
Status RdmaPageSource::enqueue(const PageRead& read) {
  if (read.range.region >= memory_->page_sizes.size()) {
    return fail(refusedf("region {} is none of the source's", read.range.region));
  }
  uint64_t page_size = memory_->page_sizes[read.range.region];
  if (read.range.offset % page_size != 0 || read.range.length % page_size != 0) {
    return fail(refusedf("offset {:#x} and length {} are not whole pages", read.range.offset,
                         read.range.length));
  }
  uint64_t most = std::max(piece_bytes_, page_size);
  PageRead rest = read;
  size_t asked_before = to_ask_.size();  // an arrival may not span two reads
  while (rest.range.length > 0) {
    const KeyedRange* keyed = memory_->keys.find(rest.range.region, rest.range.offset);
    uint64_t length = rest.range.length;
    if (keyed != nullptr) {
      length = std::min({length, keyed->end() - rest.range.offset, most});
      Piece piece;
      piece.range = {rest.range.region, rest.range.offset, length};
      piece.target = rest.target;
      piece.remote_address = keyed->remote_address + (rest.range.offset - keyed->offset);
      piece.remote_key = keyed->remote_key;
      piece.local_key = keyed->local_key;
      // Straight into its place, if that is what was registered.
      piece.bounce = keyed->local == nullptr ||
                     rest.target != keyed->local + (rest.range.offset - keyed->offset);
      waiting_.push(piece);
    } else {
      // Up to where some key covers it, or to its end: page by page, there is no hurry.
      length = page_size;
      if (to_ask_.size() > asked_before &&
          to_ask_.back().target + to_ask_.back().range.length == rest.target) {
        to_ask_.back().range.length += length;
      } else {
        to_ask_.push_back(
            {{rest.range.region, rest.range.offset, length}, rest.target, rest.beside_holes});
      }
    }
    rest.range.offset += length;
    rest.range.length -= length;
    rest.target += length;
  }
  return ok_status();
}

Status RdmaPageSource::ask_by_name() {
  if (to_ask_.empty()) return ok_status();
  if (!by_name_) return fail(Error("no key for what is to be read, and nobody to ask for it"));
  for (const PageRead& read : to_ask_)
    by_name_outstanding_ += read.range.length;
  Status asked = by_name_->post(to_ask_);
  to_ask_.clear();
  return asked ? asked : fail(asked.error());
}

// As many of the waiting pieces as the queue pair may have outstanding, in one list.
Status RdmaPageSource::pump() {
  while (!waiting_.empty()) {
    size_t count = 0;
    uint64_t unsignalled = 0;
    while (!waiting_.empty() && count < kBurst && posted_.size() < connection_.depth) {
      Piece piece = waiting_.front();
      std::byte* into = piece.target;
      if (piece.bounce) {
        if (free_slots_.empty()) break;
        piece.slot = free_slots_.back();
        free_slots_.pop_back();
        into = bounce_.data() + piece.slot * slot_bytes_;
        piece.local_key = bounce_region_.local_key();
      }
      waiting_.pop();
      targets_[count] = {reinterpret_cast<uint64_t>(into),
                         static_cast<uint32_t>(piece.range.length), piece.local_key};
      ibv_send_wr& request = requests_[count];
      request = {};
      request.wr_id = ++posted_count_;
      request.sg_list = &targets_[count];
      request.num_sge = 1;
      request.opcode = IBV_WR_RDMA_READ;
      request.wr.rdma.remote_addr = piece.remote_address;
      request.wr.rdma.rkey = piece.remote_key;
      unsignalled += piece.range.length;
      if (use_ == Use::kFaults || unsignalled >= kSignalBytes) {
        request.send_flags = IBV_SEND_SIGNALED;
        unsignalled = 0;
      }
      posted_.push(piece);
      ++count;
    }
    if (count == 0) return ok_status();  // poll() goes on when something has completed
    VMHOP_TRY(submit(count));
  }
  return ok_status();
}

Status RdmaPageSource::submit(size_t count) {
  for (size_t i = 0; i + 1 < count; ++i)
    requests_[i].next = &requests_[i + 1];
  requests_[count - 1].next = nullptr;
  requests_[count - 1].send_flags = IBV_SEND_SIGNALED;
  ibv_send_wr* refused = nullptr;
  if (int cause = ibv_post_send(connection_.id->qp, requests_.data(), &refused); cause != 0) {
    return fail(verbs_error("ibv_post_send", connection_.id.device(), cause));
  }
  return ok_status();
}

Result<size_t> RdmaPageSource::poll(std::span<PageArrival> arrivals) {
  if (failure_) return *failure_;
  if (ready_.size() < arrivals.size()) VMHOP_TRY(reap());
  VMHOP_TRY(pump());
  size_t count = 0;
  for (; count < arrivals.size() && !ready_.empty(); ready_.pop())
    arrivals[count++] = ready_.front();
  // A page that is there comes first: as long as some do, the connection cannot have ended.
  bool slept = count == 0 && std::exchange(slept_, false);
  if (slept) VMHOP_TRY(look_at_events());
  if (by_name_ && count < arrivals.size() && (slept || by_name_outstanding_ > 0)) {
    VMHOP_ASSIGN(size_t more, poll_by_name(arrivals.subspan(count)));
    count += more;
  }
  return count;
}

Result<size_t> RdmaPageSource::poll_by_name(std::span<PageArrival> arrivals) {
  auto count = by_name_->poll(arrivals);
  if (!count) return fail(count.error()).error();
  for (const PageArrival& arrival : arrivals.first(*count))
    by_name_outstanding_ -= arrival.range.length;
  return count;
}

Status RdmaPageSource::reap() {
  if (posted_.empty()) return ok_status();
  std::array<ibv_wc, 16> completions;
  auto count = connection_.completions.poll(completions);
  if (!count) return fail(count.error());
  for (const ibv_wc& completion : std::span(completions).first(*count)) {
    if (completion.status != IBV_WC_SUCCESS) {
      if (auto trouble = memory_->watch ? memory_->watch->trouble() : std::nullopt) {
        return fail(*trouble);
      }
      return fail(errorf("an RDMA read on {} failed: {} (vendor code {:#x})",
                         device_name(connection_.id.device()), ibv_wc_status_str(completion.status),
                         completion.vendor_err));
    }
    retire(completion.wr_id);
  }
  return ok_status();
}

// A completion speaks for all reads before it: a reliable connection completes them in order.
void RdmaPageSource::retire(uint64_t last) {
  while (retired_count_ < last && !posted_.empty()) {
    const Piece& piece = posted_.front();
    if (piece.slot != kNoSlot) {
      std::memcpy(piece.target, bounce_.data() + piece.slot * slot_bytes_, piece.range.length);
      free_slots_.push_back(piece.slot);
    }
    ready_.push({piece.range, Content::kData});
    posted_.pop();
    ++retired_count_;
  }
}

// After sleeping: the connection may have ended, the port gone down.
Status RdmaPageSource::look_at_events() {
  if (auto trouble = memory_->watch ? memory_->watch->trouble() : std::nullopt) {
    return fail(*trouble);
  }
  auto event = connection_.events.poll();
  if (!event) return fail(event.error());
  if (*event) return fail(event_error(**event));
  return ok_status();
}

Result<bool> RdmaPageSource::may_wait() {
  if (failure_) return false;  // poll() tells of it
  Status armed =
      posted_.empty() ? connection_.completions.forget_event() : connection_.completions.arm();
  if (!armed) return fail(armed.error()).error();
  // What completed before that tells nobody.
  VMHOP_TRY(reap());
  if (!ready_.empty()) return false;
  if (by_name_) {
    VMHOP_ASSIGN(bool quiet, by_name_->may_wait());
    if (!quiet) return false;
    auto events = static_cast<uint32_t>(by_name_->wait_events());
    if (events != by_name_events_) {
      VMHOP_TRY(watch(by_name_->wait_fd(), events, EPOLL_CTL_MOD));
      by_name_events_ = events;
    }
  }
  slept_ = true;
  return true;
}

}  // namespace vmhop::rdma

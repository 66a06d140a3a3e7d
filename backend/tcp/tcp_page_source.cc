#include "backend/tcp/tcp_page_source.h"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace vmhop {
namespace {

Error protocol_error(std::string_view what) {
  return errorf("the source's answer on a page connection makes no sense: {}", what);
}

template <typename T>
void append(std::vector<std::byte>& bytes, const T& value) {
  auto raw = std::as_bytes(std::span(&value, 1));
  bytes.insert(bytes.end(), raw.begin(), raw.end());
}

}  // namespace

Status TcpPageSource::post(std::span<const PageRead> reads) {
  outgoing_.clear();
  while (!reads.empty()) {
    size_t count = std::min<size_t>(reads.size(), tcp::kMaxRangesPerRequest);
    append(outgoing_, tcp::RequestHeader{tcp::kRequestMagic, static_cast<uint32_t>(count)});
    for (const PageRead& read : reads.first(count)) {
      if (read.range.region >= regions_.size()) {
        return refusedf("region {} is none of the source's", read.range.region);
      }
      append(outgoing_,
             tcp::RequestRange{read.range.region, static_cast<uint32_t>(read.range.length),
                               read.range.offset});
      outstanding_.push(read);
    }
    reads = reads.subspan(count);
  }
  if (unsent_.empty()) {
    VMHOP_ASSIGN(size_t sent, stream_->write_some(std::span<const std::byte>(outgoing_)));
    unsent_.assign(outgoing_.begin() + static_cast<ptrdiff_t>(sent), outgoing_.end());
    return ok_status();
  }
  unsent_.insert(unsent_.end(), outgoing_.begin(), outgoing_.end());
  return flush();
}

Status TcpPageSource::flush() {
  if (unsent_.empty()) return ok_status();
  VMHOP_ASSIGN(size_t sent, stream_->write_some(std::span<const std::byte>(unsent_)));
  unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<ptrdiff_t>(sent));
  return ok_status();
}

short TcpPageSource::wait_events() const {
  return static_cast<short>(unsent_.empty() ? POLLIN : POLLIN | POLLOUT);
}

Result<size_t> TcpPageSource::poll(std::span<PageArrival> arrivals) {
  VMHOP_TRY(flush());
  while (ready_.size() < arrivals.size()) {
    VMHOP_ASSIGN(bool more, receive());
    if (!more) break;
  }
  return emit(arrivals);
}

Result<bool> TcpPageSource::may_wait() {
  if (!ready_.empty() || stream_->has_buffered_input()) return false;
  stream_->expect_input(expected_input());
  return true;
}

// Of bulk data a piece, and no more than is sure to come: the rest of the run.
size_t TcpPageSource::expected_input() const {
  if (stage_ != Stage::kData || region().memfd < 0) return 1;
  return std::min<size_t>(runs_[run_].length - run_received_, tcp::kPiece);
}

size_t TcpPageSource::emit(std::span<PageArrival> arrivals) {
  size_t count = std::min(arrivals.size(), ready_.size());
  for (PageArrival& arrival : arrivals.first(count)) {
    arrival = ready_.front();
    ready_.pop();
  }
  return count;
}

// One system call takes the rest of what is under way and the head of the reply after it, which is
// all a lane needs while bulk data streams; and for a single page its head and its data, where
// nothing else can follow.
Result<bool> TcpPageSource::receive() {
  std::array<iovec, 2> buffers{};
  size_t used = 0;
  size_t first_length = 0;
  auto* head = reinterpret_cast<std::byte*>(&head_);
  switch (stage_) {
    case Stage::kHeader: {
      first_length = sizeof head_ - stage_received_;
      buffers[used++] = {head + stage_received_, first_length};
      // One page, alone in flight: it has one run, so whatever follows the head is its data. A
      // longer read may have more runs, and their list must not land in the target.
      if (outstanding_.size() == 1 && outstanding_.front().range.length == page_size()) {
        std::span<std::byte> page = room_for_data();
        buffers[used++] = {page.data(), page.size()};
      }
      break;
    }
    case Stage::kRuns: {
      size_t total = (runs_.size() - 1) * sizeof(tcp::ReplyRun);
      first_length = total - stage_received_;
      auto* rest = reinterpret_cast<std::byte*>(runs_.data() + 1);
      buffers[used++] = {rest + stage_received_, first_length};
      break;
    }
    case Stage::kData: {
      std::span<std::byte> room = room_for_data();
      first_length = room.size();
      buffers[used++] = {room.data(), room.size()};
      // The end of the last data run: the next reply's head comes right behind it.
      bool last = run_received_ + room.size() == runs_[run_].length &&
                  std::none_of(runs_.begin() + static_cast<ptrdiff_t>(run_) + 1, runs_.end(),
                               [](const tcp::ReplyRun& run) {
                                 return run.kind == static_cast<uint16_t>(tcp::RunKind::kData);
                               });
      if (last && outstanding_.size() > 1) buffers[used++] = {head, sizeof head_};
      break;
    }
  }
  size_t room = 0;
  for (const iovec& buffer : std::span(buffers).first(used))
    room += buffer.iov_len;
  VMHOP_ASSIGN(size_t got, stream_->read_some(buffers.data(), used));
  if (got == 0) return false;
  size_t first = std::min(got, first_length);
  size_t beyond = got - first;
  switch (stage_) {
    case Stage::kHeader:
      stage_received_ += first;
      if (stage_received_ == sizeof head_) VMHOP_TRY(accept_header());
      if (beyond > 0) {
        // Only the data of the single read can be there.
        if (stage_ != Stage::kData || read_done_ != 0 || beyond > runs_[run_].length) {
          return protocol_error("more bytes than were asked for");
        }
        VMHOP_TRY(take_data(beyond));
      }
      break;
    case Stage::kRuns:
      stage_received_ += first;
      if (stage_received_ == (runs_.size() - 1) * sizeof(tcp::ReplyRun)) VMHOP_TRY(accept_runs());
      break;
    case Stage::kData:
      VMHOP_TRY(take_data(first));
      if (beyond > 0) {
        stage_received_ = beyond;
        if (stage_received_ == sizeof head_) VMHOP_TRY(accept_header());
      }
      break;
  }
  return got == room;
}

Status TcpPageSource::accept_header() {
  if (outstanding_.empty()) return protocol_error("nothing was asked for");
  if (head_.header.magic != tcp::kReplyMagic) return protocol_error("wrong magic number");
  if (head_.header.runs == tcp::kRefusedRuns) {
    return refusedf("the source does not have what was asked for: region {}, offset {:#x}",
                    outstanding_.front().range.region, outstanding_.front().range.offset);
  }
  if (head_.header.runs == 0 || head_.header.runs > tcp::kMaxRunsPerReply) {
    return protocol_error("number of runs");
  }
  runs_.assign(head_.header.runs, tcp::ReplyRun{});
  runs_[0] = head_.first;
  stage_received_ = 0;
  if (runs_.size() > 1) {
    stage_ = Stage::kRuns;
    return ok_status();
  }
  return accept_runs();
}

Status TcpPageSource::accept_runs() {
  uint64_t total = 0;
  for (const tcp::ReplyRun& run : runs_) {
    auto kind = static_cast<tcp::RunKind>(run.kind);
    if (kind != tcp::RunKind::kData && kind != tcp::RunKind::kZero) {
      return protocol_error("unknown kind of run");
    }
    if (run.length == 0 || run.length % page_size() != 0 || run.reserved != 0) {
      return protocol_error("length of a run");
    }
    total += run.length;
  }
  if (total != outstanding_.front().range.length) return protocol_error("runs that do not add up");
  stage_ = Stage::kData;
  stage_received_ = 0;
  run_ = 0;
  run_received_ = run_reported_ = read_done_ = 0;
  skip_zero_runs();
  return ok_status();
}

// Reports zero runs as they are; ends at a run that has data, or with the read.
void TcpPageSource::skip_zero_runs() {
  PageRead& read = outstanding_.front();
  while (run_ < runs_.size() && runs_[run_].kind == static_cast<uint16_t>(tcp::RunKind::kZero)) {
    ready_.push(
        {{read.range.region, read.range.offset + read_done_, runs_[run_].length}, Content::kZero});
    read_done_ += runs_[run_].length;
    ++run_;
  }
  run_received_ = run_reported_ = 0;
  if (run_ == runs_.size()) {
    outstanding_.pop();
    stage_ = Stage::kHeader;
    stage_received_ = 0;
  }
}

// For what comes next of the run under way, or of the single page that a head is awaited for.
std::span<std::byte> TcpPageSource::room_for_data() {
  const PageRead& read = outstanding_.front();
  bool known = stage_ == Stage::kData;
  uint64_t length = known ? runs_[run_].length : read.range.length;
  uint64_t received = known ? run_received_ : 0;
  uint64_t reported = known ? run_reported_ : 0;
  if (region().memfd < 0) {
    uint64_t done = known ? read_done_ : 0;
    return {read.target + done + received, length - received};
  }
  // What of a page has come stays at the beginning.
  size_t used = received - reported;
  size_t wanted = std::clamp<size_t>(length - reported, page_size(), tcp::kPiece);
  if (buffer_.size() < wanted) buffer_.resize(wanted);
  return {buffer_.data() + used, std::min<size_t>(buffer_.size() - used, length - received)};
}

// Whole pages are reported as they come: nobody waits for the end of a long read.
Status TcpPageSource::take_data(size_t received) {
  PageRead& read = outstanding_.front();
  run_received_ += received;
  uint64_t whole = run_received_ - run_received_ % page_size();
  if (whole > run_reported_) {
    if (region().memfd >= 0) VMHOP_TRY(write_pages(whole - run_reported_));
    ready_.push(
        {{read.range.region, read.range.offset + read_done_ + run_reported_, whole - run_reported_},
         Content::kData});
    run_reported_ = whole;
  }
  if (run_received_ == runs_[run_].length) {
    read_done_ += runs_[run_].length;
    ++run_;
    skip_zero_runs();
  }
  return ok_status();
}

// The kernel takes no large page across one that is there already (base/ram_file.h), so none beyond
// these two. By an advice instead of a touch: without memory it fails, as the write will, and
// raises no signal.
void TcpPageSource::keep_holes_around(std::byte* target, uint64_t length) const {
  (void)::madvise(target, page_size(), MADV_POPULATE_WRITE);
  (void)::madvise(target + length - page_size(), page_size(), MADV_POPULATE_WRITE);
}

// The first `length` bytes of the buffer; what has come of the next page moves to the beginning.
Status TcpPageSource::write_pages(uint64_t length) {
  const PageRead& read = outstanding_.front();
  uint64_t done = read_done_ + run_reported_;
  uint64_t offset = read.range.offset + done;
  if (read.beside_holes) keep_holes_around(read.target + done, length);
  for (uint64_t written = 0; written < length;) {
    ssize_t put = ::pwrite(region().memfd, buffer_.data() + written, length - written,
                           static_cast<off_t>(offset + written));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Error::from_errno("writing to the VM's memory", errno);
    written += static_cast<uint64_t>(put);
  }
  uint64_t next = run_received_ - run_reported_ - length;
  std::memcpy(buffer_.data(), buffer_.data() + length, next);
  return ok_status();
}

}  // namespace vmhop

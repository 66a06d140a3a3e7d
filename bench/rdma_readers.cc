#include "bench/rdma_readers.h"

#include <poll.h>

#include <array>
#include <cerrno>
#include <utility>

namespace vmhop::bench {
namespace {

Status await_readable(int fd, short events) {
  pollfd polled{fd, events, 0};
  if (::poll(&polled, 1, -1) < 0 && errno != EINTR) return Error::from_errno("poll", errno);
  return ok_status();
}

class BareReader final : public Reader {
 public:
  BareReader(BenchPair& pair, rdma::Connection connection)
      : pair_(pair), connection_(std::move(connection)) {}

  Status post(uint64_t offset, uint64_t length) override {
    const rdma::KeyedRange& range = *pair_.range_at(offset);
    ibv_sge target{reinterpret_cast<uint64_t>(range.local + (offset - range.offset)),
                   static_cast<uint32_t>(length), range.local_key};
    ibv_send_wr request{};
    request.wr_id = length;
    request.sg_list = &target;
    request.num_sge = 1;
    request.opcode = IBV_WR_RDMA_READ;
    request.send_flags = IBV_SEND_SIGNALED;
    request.wr.rdma.remote_addr = range.remote_address + (offset - range.offset);
    request.wr.rdma.rkey = range.remote_key;
    ibv_send_wr* refused = nullptr;
    if (int cause = ibv_post_send(connection_.id->qp, &request, &refused); cause != 0) {
      return Error::from_errno("ibv_post_send", cause);
    }
    return ok_status();
  }

  Result<uint64_t> poll() override {
    std::array<ibv_wc, 16> completions;
    VMHOP_ASSIGN(size_t count, connection_.completions.poll(completions));
    uint64_t bytes = 0;
    for (const ibv_wc& completion : std::span(completions).first(count)) {
      if (completion.status != IBV_WC_SUCCESS) return Error(ibv_wc_status_str(completion.status));
      bytes += completion.wr_id;
    }
    return bytes + std::exchange(early_, 0);
  }

  Status sleep() override {
    VMHOP_TRY(connection_.completions.arm());
    VMHOP_ASSIGN(uint64_t bytes, poll());  // what completed before that tells nobody
    early_ = bytes;
    return bytes > 0 ? ok_status() : await_readable(connection_.completions.fd(), POLLIN);
  }

 private:
  BenchPair& pair_;
  rdma::Connection connection_;
  uint64_t early_ = 0;  // seen by sleep()
};

class SourceReader final : public Reader {
 public:
  SourceReader(BenchPair& pair, std::unique_ptr<PageSource> source)
      : pair_(pair), source_(std::move(source)) {}

  Status post(uint64_t offset, uint64_t length) override {
    PageRead read{{0, offset, length}, pair_.target() + offset};
    return source_->post(std::span(&read, 1));
  }

  Result<uint64_t> poll() override {
    std::array<PageArrival, 16> arrivals;
    VMHOP_ASSIGN(size_t count, source_->poll(arrivals));
    uint64_t bytes = 0;
    for (const PageArrival& arrival : std::span(arrivals).first(count))
      bytes += arrival.range.length;
    return bytes;
  }

  Status sleep() override {
    VMHOP_ASSIGN(bool may_wait, source_->may_wait());
    return may_wait ? await_readable(source_->wait_fd(), source_->wait_events()) : ok_status();
  }

 private:
  BenchPair& pair_;
  std::unique_ptr<PageSource> source_;
};

}  // namespace

Result<std::unique_ptr<Reader>> bare_reader(BenchPair& pair, size_t connection) {
  VMHOP_ASSIGN(rdma::Connection taken, pair.connection(connection));
  return std::unique_ptr<Reader>(std::make_unique<BareReader>(pair, std::move(taken)));
}

Result<std::unique_ptr<Reader>> source_reader(BenchPair& pair, size_t connection) {
  VMHOP_ASSIGN(auto source, pair.source(connection));
  return std::unique_ptr<Reader>(std::make_unique<SourceReader>(pair, std::move(source)));
}

}  // namespace vmhop::bench

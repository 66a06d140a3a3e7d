#include "bench/tcp_faults.h"

#include <sys/socket.h>

#include <cerrno>

#include "backend/session/byte_stream.h"
#include "backend/tcp/page_server.h"
#include "backend/tcp/tcp_page_source.h"

namespace vmhop::bench {
namespace {

// Asks another thread for the page: its number, and nothing else.
class TcpFloor final : public BareServer {
 public:
  static Result<std::unique_ptr<FaultServer>> start_on(const FaultStage& stage, Waiting waiting) {
    VMHOP_ASSIGN(TcpPair pair, connect_loopback());
    VMHOP_ASSIGN(EventFd stop, EventFd::create());
    std::unique_ptr<TcpFloor> server(
        new TcpFloor(stage, waiting, std::move(stop), std::move(pair)));
    server->start([raw = server.get()] { return raw->serve_pages(); });
    server->start([raw = server.get()] { return raw->serve_faults(); });
    return std::unique_ptr<FaultServer>(std::move(server));
  }
  ~TcpFloor() override { end(); }

 private:
  TcpFloor(const FaultStage& stage, Waiting waiting, EventFd stop, TcpPair pair)
      : BareServer(stage, waiting, std::move(stop)), pair_(std::move(pair)) {}

  Status fetch(uint64_t page) override {
    if (::send(pair_.near.get(), &page, sizeof page, MSG_NOSIGNAL) != sizeof page) {
      return Error::from_errno("send", errno);
    }
    return receive_all(pair_.near.get(), stage_.target().alias() + page * kPage, kPage, for_pages_);
  }

  Status serve_pages() {
    AdaptiveSpin for_requests;
    for (;;) {
      uint64_t page = 0;
      VMHOP_TRY(receive_all(pair_.far.get(), &page, sizeof page, for_requests));
      const std::byte* bytes = stage_.source()[0].alias() + page * kPage;
      if (::send(pair_.far.get(), bytes, kPage, MSG_NOSIGNAL) != static_cast<ssize_t>(kPage)) {
        return Error::from_errno("send", errno);
      }
    }
  }

  Status receive_all(int fd, void* into, size_t size, AdaptiveSpin& spinning) {
    auto* bytes = static_cast<std::byte*>(into);
    size_t done = 0;
    auto take = [&] {
      ssize_t got = ::recv(fd, bytes + done, size - done, MSG_DONTWAIT);
      if (got > 0) done += static_cast<size_t>(got);
      return got > 0;
    };
    while (done < size) {
      if (take() || spin(spinning, take)) continue;
      VMHOP_TRY(sleep(fd));
      spinning.end_sleep();
    }
    return ok_status();
  }

  TcpPair pair_;
  AdaptiveSpin for_pages_;  // the fault thread's
};

class TcpLanes final : public PageLanes {
 public:
  explicit TcpLanes(const FaultStage& stage) : stage_(stage), store_(stage.source()) {
    auto layout = std::make_shared<SourceLayout>();
    layout->extents.push_back({{0, stage.source()[0].info().size}});
    store_.set_layout(std::move(layout));
  }

  Result<std::unique_ptr<PageSource>> fault_source() override {
    return connect(PageServer::Pace::kFaults, -1);
  }
  Result<std::unique_ptr<PageSource>> bulk_source(unsigned /*precacher*/) override {
    return connect(PageServer::Pace::kBulk, stage_.target().memfd());
  }

 private:
  // Pages are written to `file`, or to the alias where there is none.
  Result<std::unique_ptr<PageSource>> connect(PageServer::Pace pace, int file) {
    VMHOP_ASSIGN(TcpPair pair, connect_loopback());
    VMHOP_ASSIGN(auto far, make_plain_stream(std::move(pair.far)));
    VMHOP_ASSIGN(auto near, make_plain_stream(std::move(pair.near)));
    VMHOP_ASSIGN(auto lane,
                 PageServer::start(std::move(far), store_, pace, served_, [](const Error&) {}));
    lanes_.push_back(std::move(lane));
    std::vector<TcpPageSource::Region> regions{{kPage, file}};
    return std::unique_ptr<PageSource>(
        std::make_unique<TcpPageSource>(std::move(near), std::move(regions)));
  }

  const FaultStage& stage_;
  PageStore store_;
  PageServerCounters served_;
  std::vector<std::unique_ptr<PageServer>> lanes_;
};

Result<std::unique_ptr<PageLanes>> make_lanes(const FaultStage& stage) {
  return std::unique_ptr<PageLanes>(std::make_unique<TcpLanes>(stage));
}

}  // namespace

FaultTransport faults_by_tcp() {
  return {TcpFloor::start_on, make_lanes};
}

}  // namespace vmhop::bench

#include "bench/fault_handlers.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "backend/base/thread_role.h"
#include "backend/session/byte_stream.h"
#include "backend/tcp/tcp_page_source.h"

namespace vmhop::bench {
namespace {

constexpr unsigned kPrecachers = 2;

Error stopped() {
  return Error("stopped", ErrorKind::kClosed);
}

}  // namespace

Result<std::unique_ptr<BareServer>> BareServer::start(const FaultStage& stage, Waiting waiting) {
  VMHOP_ASSIGN(TcpPair pair, connect_loopback());
  VMHOP_ASSIGN(EventFd stop, EventFd::create());
  std::unique_ptr<BareServer> server(
      new BareServer(stage, waiting, std::move(pair), std::move(stop)));
  auto run = [raw = server.get()](Status (BareServer::*serve)()) {
    // As the pager's and the page server's.
    begin_thread("floor", ThreadRole::kFault);
    Status end = (raw->*serve)();
    if (end || raw->stopping_) return;
    std::lock_guard lock(raw->mutex_);
    raw->failure_ = end;
  };
  server->pages_ = std::thread(run, &BareServer::serve_pages);
  server->faults_ = std::thread(run, &BareServer::serve_faults);
  return server;
}

BareServer::~BareServer() {
  stopping_ = true;
  stop_.notify();
  pages_.join();
  faults_.join();
}

Status BareServer::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

Status BareServer::await(int fd, AdaptiveSpin& spin, const std::function<bool()>& ready) {
  if (waiting_ == Waiting::kSpinning && spin.spin(ready)) return ok_status();
  std::array<pollfd, 2> polled{{{fd, POLLIN, 0}, {stop_.fd(), POLLIN, 0}}};
  if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) {
    return Error::from_errno("poll", errno);
  }
  return polled[1].revents != 0 ? Status(stopped()) : ok_status();
}

Status BareServer::receive_all(int fd, void* into, size_t size, AdaptiveSpin& spin) {
  auto* bytes = static_cast<std::byte*>(into);
  size_t done = 0;
  auto take = [&] {
    ssize_t got = ::recv(fd, bytes + done, size - done, MSG_DONTWAIT);
    if (got > 0) done += static_cast<size_t>(got);
    return got > 0;
  };
  while (done < size) {
    if (!take()) VMHOP_TRY(await(fd, spin, take));
  }
  return ok_status();
}

Status BareServer::serve_faults() {
  AdaptiveSpin for_faults;
  AdaptiveSpin for_pages;
  std::array<uint64_t, 16> addresses;
  for (;;) {
    size_t count = 0;
    Status failed;
    auto look = [&] {
      auto got = stage_.userfault().read_faults(addresses);
      if (!got) failed = got.error();
      count = got ? *got : 0;
      return !failed || count > 0;
    };
    if (!look()) VMHOP_TRY(await(stage_.userfault().fd(), for_faults, look));
    VMHOP_TRY(failed);
    for (uint64_t address : std::span(addresses).first(count)) {
      uint64_t page = (address - stage_.guest_address()) / kPage;
      if (::send(pair_.near.get(), &page, sizeof page, MSG_NOSIGNAL) != sizeof page) {
        return Error::from_errno("send", errno);
      }
      VMHOP_TRY(
          receive_all(pair_.near.get(), stage_.target().alias() + page * kPage, kPage, for_pages));
      VMHOP_TRY(stage_.userfault().install(stage_.guest_address() + page * kPage, kPage, kPage));
    }
  }
}

Status BareServer::serve_pages() {
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

Result<std::unique_ptr<PagerServer>> PagerServer::start(const FaultStage& stage, bool precaching) {
  std::unique_ptr<PagerServer> server(new PagerServer(stage));
  auto layout = std::make_shared<SourceLayout>();
  layout->extents.push_back({{0, stage.source()[0].info().size}});
  std::vector<ExtentList> extents = layout->extents;
  server->store_.set_layout(std::move(layout));

  RegionInfo info = stage.target().info();
  VMHOP_ASSIGN(PageMap map, PageMap::create(std::span(&info, 1)));
  server->page_map_ = std::make_unique<PageMap>(std::move(map));
  UniqueFd file(::dup(stage.target().memfd()));
  VMHOP_ASSIGN(RamRegion ram, RamRegion::map(info, std::move(file), Access::kReadWrite));
  std::vector<DestinationMemory::Region> regions;
  regions.push_back(
      {std::move(ram), stage.guest_address(), Userfault(UniqueFd(::dup(stage.userfault().fd())))});
  auto note = [raw = server.get()](const Error& error) {
    std::lock_guard lock(raw->mutex_);
    raw->failure_ = error;
  };
  VMHOP_ASSIGN(server->pager_, Pager::start(std::move(regions), *server->page_map_,
                                            precaching ? kPrecachers : 0, {note, [] {}, note}));
  if (precaching) server->pager_->set_preliminary_layout(0, std::move(extents[0]));
  VMHOP_TRY(server->add_lane(-1));
  for (unsigned i = 0; precaching && i < kPrecachers; ++i)
    VMHOP_TRY(server->add_lane(static_cast<int>(i)));
  return server;
}

Status PagerServer::add_lane(int precacher) {
  VMHOP_ASSIGN(TcpPair pair, connect_loopback());
  VMHOP_ASSIGN(auto far, make_plain_stream(std::move(pair.far)));
  VMHOP_ASSIGN(auto near, make_plain_stream(std::move(pair.near)));
  auto pace = precacher < 0 ? PageServer::Pace::kFaults : PageServer::Pace::kBulk;
  VMHOP_ASSIGN(auto lane,
               PageServer::start(std::move(far), store_, pace, served_, [](const Error&) {}));
  lanes_.push_back(std::move(lane));
  std::vector<TcpPageSource::Region> regions{{kPage, precacher < 0 ? -1 : stage_.target().memfd()}};
  auto source = std::make_unique<TcpPageSource>(std::move(near), std::move(regions));
  if (precacher < 0) {
    pager_->attach_fault_source(std::move(source));
  } else {
    pager_->attach_bulk_source(static_cast<unsigned>(precacher), std::move(source));
  }
  return ok_status();
}

Status PagerServer::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace vmhop::bench

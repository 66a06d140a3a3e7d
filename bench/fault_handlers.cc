#include "bench/fault_handlers.h"

#include <poll.h>

#include <cerrno>

#include "backend/base/thread_role.h"

namespace vmhop::bench {
namespace {

Error stopped() {
  return Error("stopped", ErrorKind::kClosed);
}

}  // namespace

Status BareServer::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

void BareServer::start(const std::function<Status()>& serve) {
  threads_.emplace_back([this, serve] {
    begin_thread("floor", ThreadRole::kFault);
    Status end = serve();
    if (end || stopping_) return;
    std::lock_guard lock(mutex_);
    failure_ = end;
  });
}

void BareServer::end() {
  stopping_ = true;
  stop_.notify();
  for (std::thread& thread : threads_)
    thread.join();
}

bool BareServer::spin(AdaptiveSpin& spin, const std::function<bool()>& ready) {
  return waiting_ == Waiting::kSpinning && spin.spin(ready);
}

Status BareServer::sleep(int fd) {
  std::array<pollfd, 2> polled{{{fd, POLLIN, 0}, {stop_.fd(), POLLIN, 0}}};
  if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) {
    return Error::from_errno("poll", errno);
  }
  return polled[1].revents != 0 ? Status(stopped()) : ok_status();
}

Status BareServer::serve_faults() {
  AdaptiveSpin for_faults;
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
    if (!look() && !spin(for_faults, look)) {
      VMHOP_TRY(sleep(stage_.userfault().fd()));
      for_faults.end_sleep();
    }
    VMHOP_TRY(failed);
    for (uint64_t address : std::span(addresses).first(count)) {
      uint64_t page = (address - stage_.guest_address()) / kPage;
      VMHOP_TRY(fetch(page));
      VMHOP_TRY(stage_.userfault().install(stage_.guest_address() + page * kPage, kPage, kPage));
    }
  }
}

Result<std::unique_ptr<PagerServer>> PagerServer::start(const FaultStage& stage,
                                                        std::unique_ptr<PageLanes> lanes,
                                                        Precaching precaching) {
  std::unique_ptr<PagerServer> server(new PagerServer(std::move(lanes)));
  RegionInfo info = stage.target().info();
  VMHOP_ASSIGN(PageMap map, PageMap::create(std::span(&info, 1)));
  server->page_map_ = std::make_unique<PageMap>(std::move(map));
  VMHOP_ASSIGN(std::vector<DestinationMemory::Region> regions, stage.target_regions());
  auto note = [raw = server.get()](const Error& error) {
    std::lock_guard lock(raw->mutex_);
    raw->failure_ = error;
  };
  unsigned precachers = precaching == Precaching::kNone ? 0 : kPrecachers;
  VMHOP_ASSIGN(server->pager_, Pager::start(std::move(regions), *server->page_map_, precachers,
                                            {note, [] {}, note}));
  ExtentList all{{0, info.size}};
  if (precachers > 0) server->pager_->set_preliminary_layout(0, std::move(all));
  VMHOP_ASSIGN(auto faults, server->lanes_->fault_source());
  server->pager_->attach_fault_source(std::move(faults));
  for (unsigned i = 0; i < precachers; ++i) {
    VMHOP_ASSIGN(auto bulk, server->lanes_->bulk_source(i));
    server->pager_->attach_bulk_source(i, std::move(bulk));
  }
  return server;
}

Status PagerServer::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace vmhop::bench

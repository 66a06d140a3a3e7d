// A pager in a process of its own, which dies at a chosen moment:
//
//   toy_pager PAGE_MAP FAULT_LANE BULK_LANE [MEMFD USERFAULTFD ADDRESS SIZE ID]… -- DEATH LANE NTH
//
// Descriptors are numbers of inherited ones; BULK_LANE may be -1. It takes the page map over, reads
// through the lanes, and exits with 0 once the VM is drained. DEATH is a moment of the n-th read
// with data on LANE (fault or bulk), or "never".
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdarg>
#include <cstring>

#include <string>
#include <vector>

#include "backend/pager.h"
#include "backend/tcp/tcp_page_source.h"
#include "tests/backend/memory_image.h"

namespace vmhop::testing_support {
namespace {

struct Death {
  std::string moment;
  std::string lane;
  std::atomic<int> countdown{0};
};
Death death;                            // set before any thread starts
thread_local const char* my_lane = "";  // the lane that this thread reads from
thread_local int to_install = 0;        // data arrivals that it has not installed yet

// The n-th time on the chosen lane is the last.
void die_if(const char* moment) {
  if (death.moment != moment || death.lane != my_lane) return;
  if (death.countdown.fetch_sub(1) == 1) ::kill(::getpid(), SIGKILL);
}

// A TCP page source that dies at the moments that happen in it.
class MortalSource final : public PageSource {
 public:
  MortalSource(std::unique_ptr<PageSource> inner, const char* lane)
      : inner_(std::move(inner)), lane_(lane) {}

  Status post(std::span<const PageRead> reads) override {
    my_lane = lane_;
    die_if("claimed");
    reads_.insert(reads_.end(), reads.begin(), reads.end());
    return inner_->post(reads);
  }

  Result<size_t> poll(std::span<PageArrival> arrivals) override {
    my_lane = lane_;
    VMHOP_ASSIGN(size_t count, inner_->poll(arrivals));
    to_install = 0;
    for (const PageArrival& arrival : arrivals.first(count)) {
      if (arrival.content != Content::kData) continue;
      ++to_install;
      if (death.moment == "half-written" && death.countdown == 1) spoil_half(arrival);
      die_if("half-written");
      die_if("written");
    }
    return count;
  }

  Result<bool> may_wait() override { return inner_->may_wait(); }
  int wait_fd() const override { return inner_->wait_fd(); }
  short wait_events() const override { return inner_->wait_events(); }

 private:
  // As if only the first half of its last page had come.
  void spoil_half(const PageArrival& arrival) {
    if (death.lane != lane_) return;
    for (const PageRead& read : reads_) {
      uint64_t end = arrival.range.offset + arrival.range.length;
      if (read.range.region != arrival.range.region || arrival.range.offset < read.range.offset ||
          end > read.range.offset + read.range.length) {
        continue;
      }
      std::memset(read.target + (end - read.range.offset) - kPage / 2, 0xbd, kPage / 2);
    }
  }

  std::unique_ptr<PageSource> inner_;
  const char* lane_;
  std::vector<PageRead> reads_;
};

std::unique_ptr<PageSource> lane_of(int socket, const char* name,
                                    std::vector<TcpPageSource::Region> regions) {
  auto stream = must(make_plain_stream(UniqueFd(socket)));
  return std::make_unique<MortalSource>(
      std::make_unique<TcpPageSource>(std::move(stream), std::move(regions)), name);
}

int run(const std::vector<std::string>& arguments) {
  auto next = arguments.begin();
  auto number = [&next] { return std::stoull(*next++); };
  UniqueFd page_map_fd(static_cast<int>(number()));
  int fault_lane = static_cast<int>(number());
  int bulk_lane = std::stoi(*next++);
  std::vector<RegionInfo> infos;
  std::vector<DestinationMemory::Region> regions;
  std::vector<TcpPageSource::Region> files;
  while (*next != "--") {
    UniqueFd memfd(static_cast<int>(number()));
    Userfault userfault(UniqueFd(static_cast<int>(number())));
    uint64_t address = number();
    uint64_t size = number();
    infos.push_back({*next++, size, kPage});
    files.push_back({kPage, memfd.get()});
    regions.push_back({must(RamRegion::map(infos.back(), std::move(memfd), Access::kReadWrite)),
                       address, std::move(userfault)});
  }
  ++next;
  death.moment = *next++;
  death.lane = *next++;
  death.countdown = std::stoi(*next++);

  // A layout of everything: what is a hole, the source says.
  std::vector<ExtentList> layout;
  for (const RegionInfo& info : infos)
    layout.push_back({{0, info.size}});

  PageMap page_map = must(PageMap::attach(std::move(page_map_fd), infos));
  auto changed = must(EventFd::create());
  Pager::Callbacks callbacks;
  callbacks.on_idle = [&] { changed.notify(); };
  callbacks.on_source_lost = [](const Error& error) { must(Status(error)); };
  callbacks.on_broken = [](const Error& error) { must(Status(error)); };
  auto pager = must(Pager::start(std::move(regions), page_map, 1, std::move(callbacks)));
  pager->attach_fault_source(lane_of(fault_lane, "fault", files));
  if (bulk_lane >= 0) pager->attach_bulk_source(0, lane_of(bulk_lane, "bulk", files));
  pager->set_final_layout(std::move(layout));
  while (!pager->drained()) {
    must(wait_fd(changed.fd(), POLLIN, -1));
    changed.drain();
  }
  must(pager->finish());
  return 0;
}

}  // namespace
}  // namespace vmhop::testing_support

// In the place of libc's: dies around the installation of pages that were read. (Pages whose
// mapping was dropped are installed as well, and that is no transition.)
extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list list;
  va_start(list, request);
  void* argument = va_arg(list, void*);
  va_end(list);
  using vmhop::testing_support::die_if;
  bool installs = request == UFFDIO_CONTINUE && vmhop::testing_support::to_install > 0;
  if (installs) die_if("filled");
  auto result = static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
  if (installs && result == 0) {
    --vmhop::testing_support::to_install;
    die_if("continued");
  }
  return result;
}

int main(int count, char** arguments) {
  return vmhop::testing_support::run({arguments + 1, arguments + count});
}

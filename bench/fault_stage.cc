#include "bench/fault_stage.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "backend/base/ram_file.h"
#include "backend/session/tcp.h"

namespace vmhop::bench {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t word_of(uint64_t page) {
  return page * 0x9e3779b97f4a7c15 + 1;
}

}  // namespace

Result<TcpPair> connect_loopback() {
  VMHOP_ASSIGN(UniqueFd listening, listen_tcp({"127.0.0.1", 0}));
  VMHOP_ASSIGN(uint16_t port, local_port(listening.get()));
  TcpPair pair;
  VMHOP_ASSIGN(pair.near, connect_tcp({"127.0.0.1", port}, 5000));
  VMHOP_TRY(wait_fd(listening.get(), POLLIN, 5000));
  pair.far.reset(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!pair.far.valid()) return Error::from_errno("accept4", errno);
  VMHOP_TRY(tune_tcp(pair.far.get()));
  return pair;
}

Result<std::unique_ptr<FaultStage>> FaultStage::create(uint64_t bytes) {
  RegionInfo info{"ram", bytes, kPage};
  VMHOP_ASSIGN(UniqueFd there, create_ram_file("bench-source", bytes));
  VMHOP_ASSIGN(RamRegion source, RamRegion::map(info, std::move(there), Access::kReadWrite));
  for (uint64_t page = 0; page < source.pages(); ++page) {
    uint64_t word = word_of(page);
    for (uint64_t at = 0; at < kPage; at += sizeof word)
      std::memcpy(source.alias() + page * kPage + at, &word, sizeof word);
  }
  VMHOP_ASSIGN(UniqueFd here, create_ram_file("bench-target", bytes));
  VMHOP_ASSIGN(Mapping guest, Mapping::map_shared(here.get(), bytes, Access::kReadWrite));
  VMHOP_ASSIGN(RamRegion target, RamRegion::map(info, std::move(here), Access::kReadWrite));
  VMHOP_ASSIGN(Userfault userfault, Userfault::open());
  VMHOP_TRY(userfault.register_range(reinterpret_cast<uint64_t>(guest.data()), bytes));
  return std::unique_ptr<FaultStage>(
      new FaultStage(std::move(source), std::move(target), std::move(guest), std::move(userfault)));
}

Result<std::vector<DestinationMemory::Region>> FaultStage::target_regions() const {
  UniqueFd file(::dup(target().memfd()));
  VMHOP_ASSIGN(RamRegion ram, RamRegion::map(target().info(), std::move(file), Access::kReadWrite));
  std::vector<DestinationMemory::Region> regions;
  regions.push_back(
      {std::move(ram), guest_address(), Userfault(UniqueFd(::dup(userfault().fd())))});
  return regions;
}

double FaultStage::touch(uint64_t page) const {
  auto start = Clock::now();
  (void)*reinterpret_cast<const volatile uint64_t*>(guest_.data() + page * kPage);
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

Status FaultStage::check(uint64_t page) const {
  uint64_t first = 0;
  uint64_t last = 0;
  const std::byte* bytes = guest_.data() + page * kPage;
  std::memcpy(&first, bytes, sizeof first);
  std::memcpy(&last, bytes + kPage - sizeof last, sizeof last);
  if (first == word_of(page) && last == word_of(page)) return ok_status();
  return errorf("page {} is not the source's", page);
}

std::vector<uint64_t> scattered_pages(uint64_t pages, uint64_t count) {
  std::vector<uint64_t> order(pages);
  for (uint64_t i = 0; i < pages; ++i)
    order[i] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937_64(42));
  order.resize(std::min(pages, count));
  return order;
}

}  // namespace vmhop::bench

#include "tests/integration/damaging_proxy.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

#include "backend/tcp/wire.h"

namespace vmhop::lab {
namespace {

// Replies to precaching have runs longer than this; to a fault, a page.
constexpr uint32_t kBulkRun = 64 * 1024;
constexpr size_t kDamagedAt = 1000;
constexpr std::byte kDamage{0x20};
// Of a page that no other is like.
constexpr size_t kManyValues = 32;

// The next reply of precaching in `bytes` that has a page of data with it; where the page begins,
// or the size when there is none. What looks like one and is guest memory is damaged just as well.
size_t next_bulk_page(std::span<const std::byte> bytes) {
  for (size_t at = 0; at + sizeof(tcp::ReplyHeader) + sizeof(tcp::ReplyRun) < bytes.size(); ++at) {
    tcp::ReplyHeader header{};
    std::memcpy(&header, bytes.data() + at, sizeof header);
    if (header.magic != tcp::kReplyMagic || header.runs != 1) continue;
    tcp::ReplyRun run{};
    std::memcpy(&run, bytes.data() + at + sizeof header, sizeof run);
    if (run.kind != static_cast<uint16_t>(tcp::RunKind::kData) || run.length < kBulkRun) continue;
    size_t page = at + sizeof header + sizeof run;
    if (page + 4096 <= bytes.size()) return page;
  }
  return bytes.size();
}

bool write_all(int socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    auto written = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written < 0 && (errno == EAGAIN || errno == EINTR)) {
      pollfd ready{socket, POLLOUT, 0};
      ::poll(&ready, 1, -1);
      continue;
    }
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<DamagingProxy>> DamagingProxy::start(const Namespace& where,
                                                            const std::string& destination,
                                                            Damage damage) {
  VMHOP_ASSIGN(HostPort peer, parse_host_port(destination));
  // A socket belongs to the namespace that it was made in.
  Result<UniqueFd> listening = Error("not tried");
  std::thread([&] {
    Status entered = where.enter();
    listening = entered ? listen_tcp({"127.0.0.1", 0}) : Result<UniqueFd>(entered.error());
  }).join();
  if (!listening) return listening.error();
  VMHOP_ASSIGN(uint16_t port, local_port(listening->get()));
  std::unique_ptr<DamagingProxy> proxy(
      new DamagingProxy(std::move(*listening), port, std::move(peer), damage));
  proxy->acceptor_ = std::thread([raw = proxy.get(), &where] { raw->serve(where); });
  return proxy;
}

DamagingProxy::~DamagingProxy() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
    for (const UniqueFd& socket : sockets_)
      ::shutdown(socket.get(), SHUT_RDWR);
  }
  open();
  ::shutdown(listening_.get(), SHUT_RDWR);
  acceptor_.join();
  for (std::thread& thread : threads_)
    thread.join();
}

void DamagingProxy::open() {
  open_ = true;
  open_.notify_all();
}

void DamagingProxy::mend() {
  std::lock_guard lock(mutex_);
  mended_ = true;
  for (const UniqueFd& socket : sockets_)
    ::shutdown(socket.get(), SHUT_RDWR);
}

void DamagingProxy::serve(const Namespace& where) {
  if (!where.enter()) return;
  for (;;) {
    pollfd ready{listening_.get(), POLLIN, 0};
    ::poll(&ready, 1, -1);
    UniqueFd source(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!source.valid()) {
      if (errno == EAGAIN || errno == EINTR) continue;
      return;  // shut down
    }
    auto destination = connect_tcp(destination_, 5000);
    if (!destination) continue;
    std::lock_guard lock(mutex_);
    if (ending_) return;
    int near = source.get();
    int far = destination->get();
    sockets_.push_back(std::move(source));
    sockets_.push_back(std::move(*destination));
    threads_.emplace_back([this, near, far] { pass(near, far, true); });
    threads_.emplace_back([this, near, far] { pass(far, near, false); });
  }
}

// Descriptors stay open until the end: a number that was used again would mix connections up.
void DamagingProxy::pass(int from, int to, bool from_source) {
  std::vector<std::byte> buffer(1 << 20);
  for (;;) {
    pollfd ready{from, POLLIN, 0};
    ::poll(&ready, 1, -1);
    auto count = ::recv(from, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (count <= 0) break;
    auto bytes = std::span(buffer).first(static_cast<size_t>(count));
    if (from_source) damage(bytes);
    if (!write_all(to, bytes)) break;
  }
  ::shutdown(from, SHUT_RDWR);
  ::shutdown(to, SHUT_RDWR);
}

void DamagingProxy::damage(std::span<std::byte> bytes) {
  if (mended_) return;
  damage_ == Damage::kSomePages ? damage_some(bytes) : damage_the_one(bytes);
}

void DamagingProxy::damage_some(std::span<std::byte> bytes) {
  for (size_t page = next_bulk_page(bytes); page < bytes.size();) {
    open_.wait(false);
    if (damaged_.fetch_add(1) >= kPages) {
      damaged_ = kPages;
      return;
    }
    bytes[page + kDamagedAt] ^= kDamage;
    bytes = bytes.subspan(page + 4096);
    page = next_bulk_page(bytes);
  }
}

// The first page that precaching brings and that can be told from all others.
void DamagingProxy::damage_the_one(std::span<std::byte> bytes) {
  auto rest = bytes;
  size_t page = next_bulk_page(rest);
  if (page < rest.size()) open_.wait(false);
  std::lock_guard lock(mark_mutex_);
  while (!mark_ && page < rest.size()) {
    auto place = rest.subspan(page + kDamagedAt, sizeof(Mark));
    if (std::set(place.begin(), place.end()).size() >= kManyValues) {
      std::copy(place.begin(), place.end(), mark_.emplace().begin());
    }
    rest = rest.subspan(page + 4096);
    page = next_bulk_page(rest);
  }
  if (!mark_) return;
  auto found = bytes.begin();
  while ((found = std::search(found, bytes.end(), mark_->begin(), mark_->end())) != bytes.end()) {
    *found++ ^= kDamage;
    ++damaged_;
  }
}

}  // namespace vmhop::lab

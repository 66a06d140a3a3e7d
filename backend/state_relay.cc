#include "backend/state_relay.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace vmhop {
namespace {

// After what the session has to say: a read point that arrived with the device state goes first.
constexpr int kPriority = 5;

}  // namespace

Result<std::unique_ptr<StateRelay>> StateRelay::start(
    EventLoop& loop, UniqueFd socket, std::function<void(std::span<const std::byte>)> on_bytes) {
  VMHOP_TRY(set_nonblocking(socket.get()));
  std::unique_ptr<StateRelay> relay(new StateRelay(loop, std::move(socket), std::move(on_bytes)));
  relay->update_events();
  return relay;
}

StateRelay::~StateRelay() {
  loop_.remove(socket_.get());
}

void StateRelay::serve(short events) {
  if ((events & (POLLOUT | POLLERR)) != 0) flush();
  if (paused_ || read_ended_) return;
  if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) read_some();
}

void StateRelay::read_some() {
  std::array<std::byte, kPiece> piece;
  ssize_t got = ::read(socket_.get(), piece.data(), piece.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    read_ended_ = true;
    update_events();
    on_bytes_({});
    return;
  }
  // May destroy this: nothing after it.
  on_bytes_(std::span(piece).first(static_cast<size_t>(got)));
}

void StateRelay::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) end_wanted_ = true;
  unsent_.insert(unsent_.end(), bytes.begin(), bytes.end());
  flush();
}

void StateRelay::flush() {
  size_t sent = 0;
  while (sent < unsent_.size()) {
    ssize_t put = ::send(socket_.get(), unsent_.data() + sent, unsent_.size() - sent, MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      if (errno != EAGAIN) sent = unsent_.size();  // QEMU is gone: nobody wants the rest
      break;
    }
    sent += static_cast<size_t>(put);
  }
  unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<ptrdiff_t>(sent));
  if (unsent_.empty() && end_wanted_) ::shutdown(socket_.get(), SHUT_WR);
  update_events();
}

void StateRelay::pause() {
  paused_ = true;
  update_events();
}

void StateRelay::resume() {
  paused_ = false;
  update_events();
}

void StateRelay::update_events() {
  bool reads = !paused_ && !read_ended_;
  auto events = static_cast<short>((reads ? POLLIN : 0) | (unsent_.empty() ? 0 : POLLOUT));
  if (events == watched_) return;
  // poll() reports a hang-up even to who asked for nothing: then do not ask at all.
  if (events == 0) {
    loop_.remove(socket_.get());
  } else {
    loop_.set(
        socket_.get(), events, [this](short ready) { serve(ready); }, kPriority);
  }
  watched_ = events;
}

}  // namespace vmhop

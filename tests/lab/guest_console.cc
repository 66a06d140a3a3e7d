#include "tests/lab/guest_console.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "tests/lab/connect_when_there.h"

namespace vmhop::lab {

Result<std::unique_ptr<GuestConsole>> GuestConsole::create() {
  VMHOP_ASSIGN(EventFd wake, EventFd::create());
  std::unique_ptr<GuestConsole> console(new GuestConsole(std::move(wake)));
  console->thread_ = std::thread([raw = console.get()] { raw->follow(); });
  return console;
}

GuestConsole::~GuestConsole() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify();
  thread_.join();
}

Status GuestConsole::attach(const std::string& where, Deadline deadline) {
  VMHOP_ASSIGN(UniqueFd socket, connect_when_there(where, deadline));
  VMHOP_TRY(set_nonblocking(socket.get()));
  {
    std::lock_guard lock(mutex_);
    streams_.push_back({std::move(socket)});
  }
  wake_.notify();
  return ok_status();
}

Status GuestConsole::send(const std::string& line) const {
  unsigned speaking = 0;
  {
    std::lock_guard lock(mutex_);
    speaking = speaking_;
  }
  return send(line, speaking);
}

Status GuestConsole::send(const std::string& line, unsigned stream) const {
  std::lock_guard lock(mutex_);
  if (stream >= streams_.size()) return errorf("console {} is not attached", stream);
  std::string text = line + "\n";
  if (::send(streams_[stream].socket.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) {
    return Error::from_errno("writing to the guest's console", errno);
  }
  return ok_status();
}

Result<Line> GuestConsole::wait_for_prefix(const std::string& prefix, Deadline deadline,
                                           size_t first) const {
  auto line = log_.wait_for([&](const Line& each) { return each.text.starts_with(prefix); },
                            deadline, first);
  return line ? line : Result<Line>(line.error().with("waiting for " + prefix));
}

void GuestConsole::follow() {
  for (;;) {
    std::vector<pollfd> polled = {{wake_.fd(), POLLIN, 0}};
    {
      std::lock_guard lock(mutex_);
      if (stop_) return;
      for (const Stream& stream : streams_)
        polled.push_back({stream.open ? stream.socket.get() : -1, POLLIN, 0});
    }
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return;
    wake_.drain();
    // In their order: all that a guest printed at one host comes before what it prints at the next.
    for (unsigned number = 0; number + 1 < polled.size(); ++number) {
      if (polled[number + 1].revents == 0) continue;
      for (unsigned earlier = 0; earlier <= number; ++earlier) {
        if (polled[earlier + 1].fd >= 0) read_stream(earlier, polled[earlier + 1].fd);
      }
    }
  }
}

void GuestConsole::read_stream(unsigned number, int socket) {
  std::array<char, 4096> bytes{};
  for (;;) {
    ssize_t got = ::recv(socket, bytes.data(), bytes.size(), 0);
    if (got > 0) {
      take(number, {bytes.data(), static_cast<size_t>(got)});
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got == 0 || errno != EAGAIN) {
      std::lock_guard lock(mutex_);
      streams_[number].open = false;
    }
    return;
  }
}

void GuestConsole::take(unsigned number, std::string_view bytes) {
  auto now = Clock::now();
  {
    std::lock_guard lock(mutex_);
    speaking_ = number;
  }
  for (char byte : bytes) {
    if (byte == '\n') {
      log_.append({now, number, std::move(partial_)});
      partial_.clear();
    } else if (byte != '\r') {
      partial_ += byte;
    }
  }
}

}  // namespace vmhop::lab

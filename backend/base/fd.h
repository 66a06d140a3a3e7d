// Owned file descriptors, and how they pass between processes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/base/result.h"

namespace vmhop {

// Owns one descriptor; closes it when it goes. Everything made here is close-on-exec.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);
  Result<UniqueFd> duplicate() const;

 private:
  int fd_ = -1;
};

// A sealed-size anonymous shared memory file of `size` bytes, named `name` in /proc.
Result<UniqueFd> create_memfd(const std::string& name, uint64_t size);
// ... of huge pages (hugetlb): of `page_size` bytes, or of the system's default size if that is 0.
Result<UniqueFd> create_huge_memfd(const std::string& name, uint64_t size, uint64_t page_size);

// A counter that makes poll() return: notify() from any thread, drain() by the one that polls.
class EventFd {
 public:
  static Result<EventFd> create();
  int fd() const { return fd_.get(); }
  void notify() const;
  void drain() const;

 private:
  explicit EventFd(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// A connected pair of unix sockets of `type` (SOCK_STREAM, SOCK_SEQPACKET), close-on-exec.
Result<std::pair<UniqueFd, UniqueFd>> socket_pair(int type);

// Sends `bytes` and `fds` (at most 64) as one message on a unix socket; the whole message or an
// error.
Status send_with_fds(int socket, std::span<const std::byte> bytes, std::span<const int> fds);

struct ReceivedMessage {
  std::vector<std::byte> bytes;
  std::vector<UniqueFd> fds;
};
// Receives one message of at most `capacity` bytes with its descriptors; ErrorKind::kClosed when
// the peer is gone.
Result<ReceivedMessage> receive_with_fds(int socket, size_t capacity);

// Listening and connected unix stream sockets, by path (107 bytes at most; checked).
// listen_unix replaces a dead socket file; the new one has mode 0600.
Result<UniqueFd> listen_unix(const std::string& path, int type);
Result<UniqueFd> connect_unix(const std::string& path, int type);

Status set_nonblocking(int fd);

// Waits until `fd` has one of `events` (POLLIN…) or `timeout_ms` went by (-1: for ever).
// Returns the events seen, 0 for a time-out; EINTR is not an error and is waited through.
Result<short> wait_fd(int fd, short events, int timeout_ms);

// Writes `bytes` whole / reads a whole file.
Status write_all(int fd, std::span<const std::byte> bytes);
Result<std::string> read_file(const std::string& path, size_t limit);
// Puts `text` at `path`, mode 0600, in one step: whoever reads finds the old content or the new
// one. By way of a file beside it, `path` with ".new". Not synced.
Status replace_file(const std::string& path, const std::string& text);

}  // namespace vmhop

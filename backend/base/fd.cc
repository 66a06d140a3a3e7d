#include "backend/base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace vmhop {
namespace {

constexpr size_t kMaxFds = 64;

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return errorf("the socket path {} has {} bytes; unix sockets allow {}. Use a shorter directory",
                  path, path.size(), sizeof(address.sun_path) - 1);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Result<UniqueFd> UniqueFd::duplicate() const {
  int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return Error::from_errno("duplicating a file descriptor", errno);
  return UniqueFd(copy);
}

namespace {

Result<UniqueFd> create_sized_memfd(const std::string& name, uint64_t size, unsigned flags) {
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | flags));
  if (!fd.valid()) return Error::from_errno("memfd_create " + name, errno);
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return Error::from_errno(fmt::format("sizing memory file {} to {} bytes", name, size), errno);
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return Error::from_errno("sealing the size of memory file " + name, errno);
  }
  return fd;
}

}  // namespace

Result<UniqueFd> create_memfd(const std::string& name, uint64_t size) {
  return create_sized_memfd(name, size, 0);
}

Result<UniqueFd> create_huge_memfd(const std::string& name, uint64_t size, uint64_t page_size) {
  unsigned flags = MFD_HUGETLB;
  if (page_size != 0) {
    if (!std::has_single_bit(page_size)) return refusedf("pages of {} bytes", page_size);
    flags |= static_cast<unsigned>(std::countr_zero(page_size)) << MAP_HUGE_SHIFT;
  }
  return create_sized_memfd(name, size, flags);
}

Result<EventFd> EventFd::create() {
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return Error::from_errno("eventfd", errno);
  return EventFd(std::move(fd));
}

void EventFd::notify() const {
  // Fails only with EAGAIN at 2^64-2 pending notifications: the poller is awake then anyway.
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(fd_.get(), &one, sizeof one);
}

void EventFd::drain() const {
  uint64_t count = 0;
  [[maybe_unused]] ssize_t got = ::read(fd_.get(), &count, sizeof count);
}

Result<std::pair<UniqueFd, UniqueFd>> socket_pair(int type) {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return Error::from_errno("socketpair", errno);
  }
  return std::pair(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

Status send_with_fds(int socket, std::span<const std::byte> bytes, std::span<const int> fds) {
  if (fds.size() > kMaxFds)
    return errorf("{} descriptors in one message; {} fit", fds.size(), kMaxFds);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> control{};
  iovec io{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  for (;;) {
    ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return Error::from_errno("sending a message with descriptors", errno);
    auto count = static_cast<size_t>(sent);
    if (count == bytes.size()) return ok_status();
    // A stream socket may take a part; the descriptors went with it.
    return write_all(socket, bytes.subspan(count));
  }
}

Result<ReceivedMessage> receive_with_fds(int socket, size_t capacity) {
  ReceivedMessage received;
  received.bytes.resize(capacity);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> control{};
  iovec io{received.bytes.data(), capacity};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return Error::from_errno("receiving a message with descriptors", errno);
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    std::vector<int> fds(count);
    std::memcpy(fds.data(), CMSG_DATA(header), count * sizeof(int));
    for (int fd : fds)
      received.fds.emplace_back(fd);
  }
  if (got == 0) return Error("the other side closed the socket", ErrorKind::kClosed);
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    return errorf("a message on a local socket is longer than {} bytes", capacity);
  }
  // The kernel drops what this process may not open, and says no more than that.
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return errorf(
        "a message on a local socket came without all of its descriptors: {} (at most {}, or this "
        "process's limit: `ulimit -n`, LimitNOFILE= of a unit)",
        std::strerror(EMFILE), kMaxFds);
  }
  received.bytes.resize(static_cast<size_t>(got));
  return received;
}

Result<UniqueFd> listen_unix(const std::string& path, int type) {
  VMHOP_ASSIGN(sockaddr_un address, unix_address(path));
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error::from_errno("creating a unix socket", errno);
  ::unlink(path.c_str());
  mode_t old_mask = ::umask(0177);
  int bound = ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  int bind_errno = errno;
  ::umask(old_mask);
  if (bound != 0) return Error::from_errno("binding " + path, bind_errno);
  if (::listen(socket.get(), 16) != 0) return Error::from_errno("listening on " + path, errno);
  return socket;
}

Result<UniqueFd> connect_unix(const std::string& path, int type) {
  VMHOP_ASSIGN(sockaddr_un address, unix_address(path));
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error::from_errno("creating a unix socket", errno);
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    int cause = errno;
    Error error = Error::from_errno("connecting to " + path, cause);
    if (cause == ECONNREFUSED || cause == ENOENT) return Error(error.message(), ErrorKind::kClosed);
    return error;
  }
  return socket;
}

Status set_nonblocking(int fd) {
  int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return Error::from_errno("making a descriptor non-blocking", errno);
  }
  return ok_status();
}

Result<short> wait_fd(int fd, short events, int timeout_ms) {
  pollfd entry{fd, events, 0};
  for (;;) {
    int ready = ::poll(&entry, 1, timeout_ms);
    if (ready >= 0) return ready == 0 ? short{0} : entry.revents;
    if (errno != EINTR) return Error::from_errno("poll", errno);
  }
}

Status write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      VMHOP_TRY(wait_fd(fd, POLLOUT, -1));
      continue;
    }
    if (written < 0) return Error::from_errno("writing", errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return ok_status();
}

Status replace_file(const std::string& path, const std::string& text) {
  std::string fresh = path + ".new";
  {
    UniqueFd file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file.valid()) return Error::from_errno("writing " + fresh, errno);
    if (auto written = write_all(file.get(), std::as_bytes(std::span(text))); !written) {
      return written.error().with("writing " + fresh);
    }
  }
  if (std::rename(fresh.c_str(), path.c_str()) != 0) {
    return Error::from_errno("replacing " + path, errno);
  }
  return ok_status();
}

Result<std::string> read_file(const std::string& path, size_t limit) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno("opening " + path, errno);
  std::string content;
  std::array<char, 4096> chunk{};
  for (;;) {
    ssize_t got = ::read(fd.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno("reading " + path, errno);
    if (got == 0) return content;
    content.append(chunk.data(), static_cast<size_t>(got));
    if (content.size() > limit) return errorf("{} is larger than {} bytes", path, limit);
  }
}

}  // namespace vmhop

#include "tests/lab/connect_when_there.h"

#include <poll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <thread>

#include "backend/session/tcp.h"

namespace vmhop::lab {
namespace {

constexpr std::chrono::milliseconds kRetryEvery{20};
constexpr int kConnectTimeoutMs = 2000;

Result<UniqueFd> connect_tcp_when_there(const std::string& where, Deadline deadline) {
  VMHOP_ASSIGN(HostPort peer, parse_host_port(where));
  for (;;) {
    auto socket = connect_tcp(peer, kConnectTimeoutMs);
    if (socket || Clock::now() >= deadline) return socket;
    std::this_thread::sleep_for(kRetryEvery);
  }
}

Result<UniqueFd> connect_unix_when_there(const std::string& path, Deadline deadline) {
  UniqueFd changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  std::string directory = std::filesystem::path(path).parent_path();
  if (::inotify_add_watch(changes.get(), directory.c_str(), IN_CREATE | IN_MOVED_TO | IN_ATTRIB) <
      0) {
    return Error::from_errno("watching " + directory, errno);
  }
  for (;;) {
    auto socket = connect_unix(path, SOCK_STREAM);
    if (socket) return socket;
    if (Clock::now() >= deadline) return socket.error();
    // bind() makes the file, listen() tells nobody: hence the short limit once it is there.
    int timeout = milliseconds_until(deadline);
    if (::access(path.c_str(), F_OK) == 0) timeout = std::min(timeout, 2);
    VMHOP_ASSIGN([[maybe_unused]] short ready, wait_fd(changes.get(), POLLIN, timeout));
    std::array<char, 4096> events{};
    while (::read(changes.get(), events.data(), events.size()) > 0) {
    }
  }
}

}  // namespace

Result<UniqueFd> connect_when_there(const std::string& where, Deadline deadline) {
  return where.starts_with('/') ? connect_unix_when_there(where, deadline)
                                : connect_tcp_when_there(where, deadline);
}

}  // namespace vmhop::lab

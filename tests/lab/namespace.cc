#include "tests/lab/namespace.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <thread>

namespace vmhop::lab {
namespace {

Status raise_loopback() {
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error::from_errno("socket", errno);
  ifreq request{};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) {
    return Error::from_errno("raising the loopback interface", errno);
  }
  return ok_status();
}

// In a thread of its own, which the namespace of everything else does not change for.
Result<UniqueFd> unshare_network() {
  if (::unshare(CLONE_NEWNET) != 0) {
    return Error::from_errno("making a network namespace (are you root?)", errno);
  }
  UniqueFd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno("opening a network namespace", errno);
  VMHOP_TRY(raise_loopback());
  return fd;
}

}  // namespace

Result<Namespace> Namespace::create(std::string name) {
  Result<UniqueFd> fd = UniqueFd();
  std::thread([&fd] { fd = unshare_network(); }).join();
  if (!fd) return fd.error();
  return Namespace(std::move(name), std::move(*fd));
}

Result<Namespace> Namespace::current() {
  UniqueFd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno("opening a network namespace", errno);
  return Namespace("current", std::move(fd));
}

std::string Namespace::path() const {
  return fmt::format("/proc/{}/fd/{}", ::getpid(), fd_.get());
}

Status Namespace::enter() const {
  if (::setns(fd_.get(), CLONE_NEWNET) != 0) {
    return Error::from_errno("entering namespace " + name_, errno);
  }
  return ok_status();
}

std::vector<pid_t> processes_in(const std::vector<int>& namespace_fds) {
  std::vector<ino_t> wanted;
  for (int fd : namespace_fds) {
    struct stat info {};
    if (::fstat(fd, &info) == 0) wanted.push_back(info.st_ino);
  }
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    std::string name = entry.path().filename().string();
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ec != std::errc{}) continue;
    struct stat info {};
    if (::stat((entry.path() / "ns/net").c_str(), &info) != 0) continue;
    if (std::find(wanted.begin(), wanted.end(), info.st_ino) != wanted.end()) found.push_back(pid);
  }
  return found;
}

}  // namespace vmhop::lab

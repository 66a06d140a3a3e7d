#include "qemu-memory-backend/front_listener.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "qemu-memory-backend/front_handshake.h"

namespace vmhop {
namespace {

using Clock = std::chrono::steady_clock;

// A front sends as soon as it has connected: this only ends one that hangs in between.
constexpr auto kMessageTimeout = std::chrono::seconds(2);

constexpr uint32_t kSmallestPage = 4096;
constexpr uint32_t kLargestPage = 1U << 30;
constexpr uint64_t kShmemFeatures = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;
constexpr uint64_t kHugetlbFeatures = UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS;
constexpr uint64_t kNeededIoctls = (1ULL << _UFFDIO_CONTINUE) | (1ULL << _UFFDIO_WAKE);

int remaining_ms(Clock::time_point deadline) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

Status answer(const UniqueFd& connection, uint16_t status, std::string_view message) {
  vmhop_front_answer reply{};
  reply.magic = VMHOP_FRONT_ANSWER_MAGIC;
  reply.version = VMHOP_FRONT_VERSION;
  reply.status = status;
  size_t length = std::min(message.size(), sizeof reply.message - 1);
  std::memcpy(reply.message, message.data(), length);
  return send_with_fds(connection.get(), std::as_bytes(std::span(&reply, 1)), {});
}

Result<std::string> read_id(const vmhop_front_region& wire) {
  const char* end = std::find(std::begin(wire.id), std::end(wire.id), '\0');
  if (end == std::end(wire.id)) return refusedf("a region's id is not terminated");
  if (end == std::begin(wire.id)) return refusedf("a region's id is empty");
  if (std::any_of(end, std::end(wire.id), [](char c) { return c != '\0'; })) {
    return refusedf("a region's id is followed by more than zeros");
  }
  std::string id(std::begin(wire.id), end);
  if (std::any_of(id.begin(), id.end(), [](char c) { return c <= ' ' || c > '~'; })) {
    return refusedf("a region's id has characters that are not printable ASCII");
  }
  return id;
}

Status check_fields(const vmhop_front_region& wire) {
  if (wire.magic != VMHOP_FRONT_REGION_MAGIC) {
    return refusedf("a message on the front's socket begins with {:#x}, not with a region's {:#x}",
                    wire.magic, VMHOP_FRONT_REGION_MAGIC);
  }
  if (wire.version != VMHOP_FRONT_VERSION) {
    return refusedf(
        "QEMU's front speaks version {}, this vmhop {}: use the library or object that "
        "came with it",
        wire.version, VMHOP_FRONT_VERSION);
  }
  if (wire.kind != VMHOP_FRONT_LAZY_REGION && wire.kind != VMHOP_FRONT_WATCHED_REGION) {
    return refusedf("region kind {} is unknown", wire.kind);
  }
  uint32_t known = wire.kind == VMHOP_FRONT_WATCHED_REGION ? VMHOP_FRONT_REGION_AGAIN : 0;
  if ((wire.flags & ~known) != 0) {
    return refusedf("a region of kind {} with flags {:#x}; {:#x} are known", wire.kind, wire.flags,
                    known);
  }
  return ok_status();
}

Status check_geometry(const vmhop_front_region& wire, const std::string& id) {
  if (!std::has_single_bit(wire.page_size) || wire.page_size < kSmallestPage ||
      wire.page_size > kLargestPage) {
    return refusedf("region {}: {} is not a page size", id, wire.page_size);
  }
  if (wire.size == 0 || wire.size % wire.page_size != 0) {
    return refusedf("region {}: its size of {} bytes is not a number of pages of {}", id, wire.size,
                    wire.page_size);
  }
  if (wire.host_address == 0 || wire.host_address % wire.page_size != 0 ||
      wire.host_address + wire.size < wire.host_address) {
    return refusedf("region {}: {:#x} is no address for {} bytes in pages of {}", id,
                    wire.host_address, wire.size, wire.page_size);
  }
  return ok_status();
}

Status check_userfaultfd(const vmhop_front_region& wire, const std::string& id,
                         const UniqueFd& userfaultfd) {
  std::error_code failure;
  auto target =
      std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", userfaultfd.get()), failure);
  if (failure || target != "anon_inode:[userfaultfd]") {
    return refusedf("region {}: its first descriptor is not a userfaultfd", id);
  }
  if ((::fcntl(userfaultfd.get(), F_GETFL) & O_NONBLOCK) == 0) {
    return refusedf("region {}: its userfaultfd is not non-blocking", id);
  }
  if ((wire.range_ioctls & kNeededIoctls) != kNeededIoctls) {
    return refusedf("region {}: its kernel allows the range operations {:#x}, which lack {:#x}", id,
                    wire.range_ioctls, kNeededIoctls & ~wire.range_ioctls);
  }
  return ok_status();
}

Status check_memfd(const vmhop_front_region& wire, const std::string& id, const UniqueFd& memfd) {
  struct stat info {};
  struct statfs file_system {};
  if (::fstat(memfd.get(), &info) != 0 || ::fstatfs(memfd.get(), &file_system) != 0) {
    return Error::from_errno(fmt::format("region {}: its memory file", id), errno);
  }
  bool hugetlb = file_system.f_type == HUGETLBFS_MAGIC;
  if (!hugetlb && file_system.f_type != TMPFS_MAGIC) {
    return refusedf("region {}: its second descriptor is not a memory file", id);
  }
  if (static_cast<uint64_t>(info.st_size) != wire.size) {
    return refusedf("region {}: {} bytes are mapped of a memory file of {}", id, wire.size,
                    info.st_size);
  }
  auto page_size = hugetlb ? static_cast<uint64_t>(file_system.f_bsize)
                           : static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  if (page_size != wire.page_size) {
    return refusedf("region {}: its memory file has pages of {} bytes, not {}", id, page_size,
                    wire.page_size);
  }
  uint64_t features = hugetlb ? kHugetlbFeatures : kShmemFeatures;
  if (wire.features != features) {
    return refusedf("region {}: its userfaultfd has features {:#x}, not {:#x}", id, wire.features,
                    features);
  }
  return ok_status();
}

Result<FrontRegion> decode(ReceivedMessage message, pid_t pid) {
  vmhop_front_region wire{};
  if (message.bytes.size() != sizeof wire) {
    return refusedf("a message of {} bytes on the front's socket; a region has {}",
                    message.bytes.size(), sizeof wire);
  }
  std::memcpy(&wire, message.bytes.data(), sizeof wire);
  VMHOP_TRY(check_fields(wire));
  if (message.fds.size() != VMHOP_FRONT_FD_COUNT) {
    return refusedf("a region with {} descriptors instead of {}", message.fds.size(),
                    VMHOP_FRONT_FD_COUNT);
  }
  VMHOP_ASSIGN(std::string id, read_id(wire));
  VMHOP_TRY(check_geometry(wire, id));
  UniqueFd& userfaultfd = message.fds[VMHOP_FRONT_FD_USERFAULTFD];
  UniqueFd& memfd = message.fds[VMHOP_FRONT_FD_MEMFD];
  VMHOP_TRY(check_userfaultfd(wire, id, userfaultfd));
  VMHOP_TRY(check_memfd(wire, id, memfd));
  return FrontRegion{.id = std::move(id),
                     .address = wire.host_address,
                     .size = wire.size,
                     .page_size = wire.page_size,
                     .pid = pid,
                     .watched = wire.kind == VMHOP_FRONT_WATCHED_REGION,
                     .again = (wire.flags & VMHOP_FRONT_REGION_AGAIN) != 0,
                     .userfaultfd = std::move(userfaultfd),
                     .memfd = std::move(memfd)};
}

Result<pid_t> peer_of(const UniqueFd& connection) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return Error::from_errno("asking who connected", errno);
  }
  return credentials.pid;
}

Result<FrontRegion> receive_region(const UniqueFd& connection, pid_t pid) {
  VMHOP_ASSIGN(ReceivedMessage message,
               receive_with_fds(connection.get(), sizeof(vmhop_front_region)));
  return decode(std::move(message), pid);
}

// kTimedOut unless `fd` gets readable in time.
Status await_input(int fd, Clock::time_point deadline, std::string_view what) {
  VMHOP_ASSIGN(short events, wait_fd(fd, POLLIN, remaining_ms(deadline)));
  if (events == 0) return Error(fmt::format("{} in time", what), ErrorKind::kTimedOut);
  return ok_status();
}

}  // namespace

Status send_front_progress(const UniqueFd& connection, const FrontProgress& progress) {
  vmhop_front_progress wire{};
  wire.magic = VMHOP_FRONT_PROGRESS_MAGIC;
  wire.version = VMHOP_FRONT_VERSION;
  wire.flags = progress.drained ? VMHOP_FRONT_DRAINED : 0;
  wire.resident = progress.resident;
  wire.faults = progress.faults;
  for (;;) {
    if (::send(connection.get(), &wire, sizeof wire, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
      return ok_status();
    }
    if (errno == EINTR) continue;
    int cause = errno;
    Error error = Error::from_errno("telling QEMU's front how far its region is", cause);
    if (cause == EAGAIN) return Error(error.message(), ErrorKind::kTimedOut);
    if (cause == EPIPE || cause == ECONNRESET) return Error(error.message(), ErrorKind::kClosed);
    return error;
  }
}

Status FrontOffer::accept() {
  return answer(connection_, VMHOP_FRONT_ACCEPTED, "");
}

Status FrontOffer::refuse(std::string_view reason) {
  return answer(connection_, VMHOP_FRONT_REFUSED, reason);
}

Result<FrontListener> FrontListener::listen(const std::string& path) {
  VMHOP_ASSIGN(UniqueFd socket, listen_unix(path, SOCK_SEQPACKET));
  // A front that gives up between poll and accept must not block us.
  VMHOP_TRY(set_nonblocking(socket.get()));
  return FrontListener(std::move(socket), path);
}

FrontListener::~FrontListener() {
  if (!socket_.valid()) return;  // moved from
  ::unlink(path_.c_str());
}

Result<FrontOffer> FrontListener::receive(std::chrono::milliseconds timeout) {
  auto deadline = Clock::now() + timeout;
  UniqueFd connection;
  while (!connection.valid()) {
    VMHOP_TRY(await_input(socket_.get(), deadline, "QEMU's front did not connect"));
    connection.reset(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection.valid() && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
      return Error::from_errno("accepting QEMU's front", errno);
    }
  }
  VMHOP_ASSIGN(pid_t pid, peer_of(connection));
  VMHOP_TRY(await_input(connection.get(), Clock::now() + kMessageTimeout,
                        "QEMU's front connected and sent nothing"));
  auto region = receive_region(connection, pid);
  if (!region) {
    // QEMU's user reads it there; whether it could be delivered changes nothing here.
    (void)answer(connection, VMHOP_FRONT_REFUSED, region.error().message());
    return region.error();
  }
  return FrontOffer(std::move(*region), std::move(connection));
}

}  // namespace vmhop

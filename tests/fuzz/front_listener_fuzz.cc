// A front's message, with whatever descriptors, as vmhop's FrontListener reads it. The first byte
// of an input says which descriptors.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <vector>

#include "qemu-memory-backend/front_handshake.h"
#include "qemu-memory-backend/front_listener.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/temporary_directory.h"

using namespace vmhop;
using fuzz::Input;
using fuzz::must;
using fuzz::require;

namespace {

constexpr uint64_t kSize = 1 << 20;

UniqueFd open_userfaultfd(int flags) {
  // For faults in user mode nobody needs a privilege.
  UniqueFd fd(
      static_cast<int>(::syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY | O_CLOEXEC | flags)));
  require(fd.valid(), "a userfaultfd");
  return fd;
}

struct Host {
  fuzz::TemporaryDirectory directory;
  FrontListener listener = must(FrontListener::listen(directory.path() + "/front"));
  UniqueFd userfaultfd = open_userfaultfd(O_NONBLOCK);
  UniqueFd blocking = open_userfaultfd(0);
  UniqueFd memory = must(create_memfd("ram", kSize));
  UniqueFd file{::open("/proc/self/status", O_RDONLY | O_CLOEXEC)};
};

std::vector<int> descriptors(const Host& host, uint8_t kind) {
  switch (kind) {
    case 1:
      return {host.blocking.get(), host.memory.get()};
    case 2:
      return {host.memory.get(), host.userfaultfd.get()};
    case 3:
      return {host.userfaultfd.get(), host.file.get()};
    case 4:
      return std::vector<int>(kind, host.memory.get());
    case 5:
      return std::vector<int>(64, host.userfaultfd.get());
    case 6:
      return {};
    default:
      return {host.userfaultfd.get(), host.memory.get()};
  }
}

void check(const FrontRegion& region) {
  struct stat info {};
  require(::fstat(region.memfd.get(), &info) == 0 && info.st_size == kSize &&
              region.size == kSize && region.page_size == ::sysconf(_SC_PAGESIZE),
          "a region has its memory's size and pages");
  require(region.address != 0 && region.address + region.size > region.address &&
              region.address % region.page_size == 0,
          "a region's pages have addresses");
  require(!region.id.empty() && region.id.size() < VMHOP_FRONT_ID_SIZE &&
              std::ranges::all_of(region.id, [](char c) { return c > ' ' && c <= '~'; }),
          "an id can be shown");
  require(region.pid == ::getpid(), "the kernel says whose it is");
}

vmhop_front_answer answer_of(const UniqueFd& connection) {
  auto received = must(receive_with_fds(connection.get(), 1000));
  vmhop_front_answer answer{};
  require(received.bytes.size() == sizeof answer && received.fds.empty(), "an answer");
  std::memcpy(&answer, received.bytes.data(), sizeof answer);
  require(answer.magic == VMHOP_FRONT_ANSWER_MAGIC && answer.version == VMHOP_FRONT_VERSION &&
              answer.message[sizeof answer.message - 1] == '\0',
          "a well-formed answer");
  return answer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Host host;
  Input input(data, size);
  auto fds = descriptors(host, input.byte() % 8);
  UniqueFd front = must(connect_unix(host.listener.path(), SOCK_SEQPACKET));
  must(send_with_fds(front.get(), input.rest(), fds));
  auto offer = host.listener.receive(std::chrono::milliseconds(0));
  if (offer) {
    check(offer->region);
    must(offer->accept());
  }
  require(answer_of(front).status == (offer ? VMHOP_FRONT_ACCEPTED : VMHOP_FRONT_REFUSED),
          "a front learns what its region is");
  return 0;
}

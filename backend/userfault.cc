#include "backend/userfault.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

// Linux 6.1; Debian 12's headers have it, older ones may not.
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

namespace vmhop {
namespace {

constexpr uint64_t kFeatures = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM;

Result<UniqueFd> open_userfault() {
  // The device first: its file mode can grant what the system call wants a capability for.
  UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (device.valid()) {
    UniqueFd fd(::ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
    if (fd.valid()) return fd;
  }
  UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (fd.valid()) return fd;
  int cause = errno;
  if (cause == EPERM) {
    return refusedf(
        "userfaultfd is not permitted: run as root or with CAP_SYS_PTRACE, give this user access "
        "to /dev/userfaultfd, or set the sysctl vm.unprivileged_userfaultfd to 1");
  }
  if (cause == ENOSYS) {
    return refusedf("this kernel has no userfaultfd: it needs CONFIG_USERFAULTFD");
  }
  return Error::from_errno("opening a userfaultfd", cause);
}

}  // namespace

Result<Userfault> Userfault::open() {
  VMHOP_ASSIGN(UniqueFd fd, open_userfault());
  uffdio_api api{UFFD_API, kFeatures, 0};
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) {
    if (errno == EINVAL) {
      return refusedf(
          "this kernel's userfaultfd has no minor faults on shared memory: Linux 5.14 or later is "
          "needed");
    }
    return Error::from_errno("UFFDIO_API", errno);
  }
  return Userfault(std::move(fd));
}

Status Userfault::register_range(uint64_t address, uint64_t length) const {
  uffdio_register request{};
  request.range = {address, length};
  request.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR;
  if (::ioctl(fd_.get(), UFFDIO_REGISTER, &request) != 0) {
    return Error::from_errno("UFFDIO_REGISTER", errno);
  }
  return ok_status();
}

Status Userfault::unregister_range(uint64_t address, uint64_t length) const {
  uffdio_range range{address, length};
  if (::ioctl(fd_.get(), UFFDIO_UNREGISTER, &range) != 0) {
    return Error::from_errno("UFFDIO_UNREGISTER", errno);
  }
  // The kernel wakes who waits before it takes the registration away. A fault that holds its VMA's
  // lock at that moment (Linux 6.4 and later) queues itself after that, and would wait for ever
  // (seen on 6.18).
  return wake(address, length);
}

Result<size_t> Userfault::read_faults(std::span<uint64_t> addresses) const {
  std::array<uffd_msg, 16> messages;
  size_t room = std::min(messages.size(), addresses.size());
  ssize_t got = ::read(fd_.get(), messages.data(), room * sizeof(uffd_msg));
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return size_t{0};
    return Error::from_errno("reading a userfaultfd", errno);
  }
  size_t count = 0;
  for (size_t i = 0; i < static_cast<size_t>(got) / sizeof(uffd_msg); ++i) {
    // No other event was asked for at UFFDIO_API.
    if (messages[i].event == UFFD_EVENT_PAGEFAULT) {
      addresses[count++] = messages[i].arg.pagefault.address;
    }
  }
  return count;
}

Status Userfault::install(uint64_t address, uint64_t length, uint64_t page_size) const {
  while (length > 0) {
    uffdio_continue request{};
    request.range = {address, length};
    if (::ioctl(fd_.get(), UFFDIO_CONTINUE, &request) == 0) return ok_status();
    int cause = errno;
    if (request.mapped > 0) {
      // The kernel stopped half-way (EAGAIN): what it mapped is mapped and woken.
      address += static_cast<uint64_t>(request.mapped);
      length -= static_cast<uint64_t>(request.mapped);
      continue;
    }
    switch (cause) {
      case EAGAIN:  // QEMU is changing its address space this moment
        ::sched_yield();
        break;
      case EEXIST:  // speaks of the first page alone
        VMHOP_TRY(wake(address, page_size));
        address += page_size;
        length -= page_size;
        break;
      case EFAULT:
        return refusedf("UFFDIO_CONTINUE: the page at {:#x} is not in the memory file", address);
      case ESRCH:
        return Error("UFFDIO_CONTINUE: QEMU is gone", ErrorKind::kClosed);
      default:
        return Error::from_errno(fmt::format("UFFDIO_CONTINUE at {:#x}", address), cause);
    }
  }
  return ok_status();
}

Status Userfault::install_zero(uint64_t address, uint64_t page_size) const {
  for (;;) {
    uffdio_zeropage request{};
    request.range = {address, page_size};
    if (::ioctl(fd_.get(), UFFDIO_ZEROPAGE, &request) == 0) return ok_status();
    switch (errno) {
      case EAGAIN:
        ::sched_yield();
        break;
      case EEXIST:  // the file has the page: the guest's own, or the kernel's for another mapping
        return install(address, page_size, page_size);
      case ESRCH:
        return Error("UFFDIO_ZEROPAGE: QEMU is gone", ErrorKind::kClosed);
      default:
        return Error::from_errno(fmt::format("UFFDIO_ZEROPAGE at {:#x}", address), errno);
    }
  }
}

Status Userfault::wake(uint64_t address, uint64_t length) const {
  uffdio_range range{address, length};
  if (::ioctl(fd_.get(), UFFDIO_WAKE, &range) != 0) return Error::from_errno("UFFDIO_WAKE", errno);
  return ok_status();
}

}  // namespace vmhop

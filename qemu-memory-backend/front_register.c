/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-memory-backend/front_register.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "qemu-memory-backend/front_report.h"

#ifndef USERFAULTFD_IOC_NEW /* Linux 6.1 */
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/* vmhop answers within milliseconds; a QEMU that waits for a vmhop that hangs must end some time.
 */
enum { kAnswerTimeoutSeconds = 30 };

static int open_userfaultfd(void) {
  int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device >= 0) {
    int userfaultfd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    close(device);
    if (userfaultfd >= 0) return userfaultfd;
  }
  /* Not UFFD_USER_MODE_ONLY, which everybody may have: KVM and system calls fault in the kernel. */
  return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

static int report_no_userfaultfd(const struct ram_file* ram, int cause) {
  if (cause == EPERM) {
    front_report(
        "RAM %s: userfaultfd is not permitted (EPERM). Give QEMU's user access to "
        "/dev/userfaultfd (Linux 6.1 and newer), or set the sysctl "
        "vm.unprivileged_userfaultfd=1, or start QEMU with CAP_SYS_PTRACE",
        ram->id);
  } else if (cause == ENOSYS) {
    front_report("RAM %s: this kernel has no userfaultfd. It needs CONFIG_USERFAULTFD=y", ram->id);
  } else {
    front_report("RAM %s: opening a userfaultfd: %s", ram->id, strerror(cause));
  }
  return cause;
}

static int report_no_minor_faults(const struct ram_file* ram) {
  if (ram->hugetlb) {
    front_report(
        "RAM %s: this kernel has no minor faults on hugetlb memory. It needs Linux 5.13 or "
        "newer, on x86-64 or arm64",
        ram->id);
  } else {
    front_report(
        "RAM %s: this kernel has no minor faults on shared memory. It needs Linux 5.14 or "
        "newer, on x86-64 or arm64",
        ram->id);
  }
  return ENOTSUP;
}

/* Asks for what the pager needs and nothing else, and registers exactly QEMU's mapping. */
static int register_mapping(int userfaultfd, const struct ram_file* ram, void* address,
                            struct vmhop_front_region* region) {
  struct uffdio_api api = {
      .api = UFFD_API,
      .features = ram->hugetlb ? UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS
                               : UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM,
  };
  region->features = api.features;
  /* A kernel that knows the feature but was built for a machine without it takes the request and
   * merely leaves it out of what it returns. */
  if (ioctl(userfaultfd, UFFDIO_API, &api) != 0) {
    if (errno == EINVAL) return report_no_minor_faults(ram);
    int cause = errno;
    front_report("RAM %s: UFFDIO_API: %s", ram->id, strerror(cause));
    return cause;
  }
  if ((api.features & region->features) != region->features) return report_no_minor_faults(ram);

  struct uffdio_register request = {
      .range = {.start = (uintptr_t)address, .len = ram->size},
      .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR,
  };
  if (ioctl(userfaultfd, UFFDIO_REGISTER, &request) != 0) {
    int cause = errno;
    front_report("RAM %s: UFFDIO_REGISTER: %s", ram->id, strerror(cause));
    return cause;
  }
  region->range_ioctls = request.ioctls;
  uint64_t needed = (1ULL << _UFFDIO_CONTINUE) | (1ULL << _UFFDIO_WAKE);
  if (!ram->hugetlb) needed |= 1ULL << _UFFDIO_ZEROPAGE;
  if ((request.ioctls & needed) != needed) return report_no_minor_faults(ram);
  return 0;
}

static int connect_to_vmhop(const struct front* front) {
  int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (connection < 0) return -1;
  struct timeval timeout = {.tv_sec = kAnswerTimeoutSeconds};
  setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  int connected = 0;
  do {
    connected = connect(connection, (const struct sockaddr*)&front->socket, sizeof front->socket);
  } while (connected != 0 && errno == EINTR);
  if (connected == 0) return connection;
  int cause = errno;
  close(connection);
  errno = cause;
  return -1;
}

static bool send_region(int connection, struct vmhop_front_region* region, int userfaultfd,
                        int memfd) {
  const int descriptors[VMHOP_FRONT_FD_COUNT] = {
      [VMHOP_FRONT_FD_USERFAULTFD] = userfaultfd,
      [VMHOP_FRONT_FD_MEMFD] = memfd,
  };
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof descriptors)];
  } control = {.bytes = {0}};
  struct iovec bytes = {.iov_base = region, .iov_len = sizeof *region};
  struct msghdr message = {
      .msg_iov = &bytes,
      .msg_iovlen = 1,
      .msg_control = control.bytes,
      .msg_controllen = sizeof control.bytes,
  };
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof descriptors);
  memcpy(CMSG_DATA(header), descriptors, sizeof descriptors);

  ssize_t sent = -1;
  do {
    sent = sendmsg(connection, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == (ssize_t)sizeof *region;
}

static int await_answer(int connection, const struct ram_file* ram) {
  struct vmhop_front_answer answer;
  ssize_t got = -1;
  do {
    got = recv(connection, &answer, sizeof answer, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    int cause = errno == EAGAIN ? ETIMEDOUT : errno;
    front_report("RAM %s: waiting for vmhop's answer: %s", ram->id, strerror(cause));
    return cause;
  }
  if (got == 0) {
    front_report("RAM %s: vmhop closed the connection without an answer. See its log", ram->id);
    return ECONNRESET;
  }
  if (got != (ssize_t)sizeof answer || answer.magic != VMHOP_FRONT_ANSWER_MAGIC ||
      answer.version != VMHOP_FRONT_VERSION) {
    front_report(
        "RAM %s: vmhop's answer is not one that this library understands: library and "
        "vmhop are not of one version",
        ram->id);
    return EPROTO;
  }
  if (answer.status != VMHOP_FRONT_ACCEPTED) {
    answer.message[sizeof answer.message - 1] = '\0';
    front_report("RAM %s: vmhop refused it: %s", ram->id, answer.message);
    return ECONNREFUSED;
  }
  return 0;
}

static int hand_over(const struct front* front, const struct ram_file* ram,
                     struct vmhop_front_region* region, int userfaultfd, int memfd) {
  int connection = connect_to_vmhop(front);
  if (connection < 0) {
    int cause = errno;
    front_report(
        "RAM %s: nobody serves its faults: connecting to vmhop at %s: %s. Start QEMU by "
        "'vmhop receive'",
        ram->id, front->socket.sun_path, strerror(cause));
    return cause;
  }
  int result = 0;
  if (!send_region(connection, region, userfaultfd, memfd)) {
    result = errno;
    front_report("RAM %s: handing it to vmhop: %s", ram->id, strerror(result));
  } else {
    result = await_answer(connection, ram);
  }
  close(connection);
  return result;
}

int front_register(const struct front* front, const struct ram_file* ram, int memfd,
                   void* address) {
  /* Before Linux 6.12 khugepaged may fill the holes of a registered shared range with zeros.
   * EINVAL is a kernel without huge pages. */
  if (madvise(address, ram->size, MADV_NOHUGEPAGE) != 0 && errno != EINVAL) {
    int cause = errno;
    front_report("RAM %s: keeping huge pages off: %s", ram->id, strerror(cause));
    return cause;
  }
  int userfaultfd = open_userfaultfd();
  if (userfaultfd < 0) return report_no_userfaultfd(ram, errno);

  struct vmhop_front_region region = {
      .magic = VMHOP_FRONT_REGION_MAGIC,
      .version = VMHOP_FRONT_VERSION,
      .kind = VMHOP_FRONT_LAZY_REGION,
      .host_address = (uintptr_t)address,
      .size = ram->size,
      .page_size = ram->page_size,
  };
  memcpy(region.id, ram->id, sizeof region.id);
  int result = register_mapping(userfaultfd, ram, address, &region);
  if (result == 0) result = hand_over(front, ram, &region, userfaultfd, memfd);
  /* On success it stays open as long as QEMU lives: if vmhop's reference were the last and went,
   * later faults would silently get zero pages. */
  if (result != 0) close(userfaultfd);
  return result;
}

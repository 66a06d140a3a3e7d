/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The front for a stock QEMU: a library that vmhop preloads. It sees QEMU map its RAM, a memfd that
 * vmhop made, and in lazy mode registers that mapping with userfaultfd and hands it to vmhop. In
 * both modes it refuses hole punching while vmhop has it blocked. Without VMHOP_FRONT it does
 * nothing.
 *
 * What of QEMU (7.2 to 10.0) it relies on, all of it through libc's exported functions:
 *  - RAM is mapped by a PROT_NONE reservation and then one whole, writable, shared, fixed mapping
 *    (util/mmap-alloc.c).
 *  - ram_block_discard_range() punches by fallocate() on the file, then drops the page-table
 * entries by madvise(MADV_DONTNEED), which vmhop's pager answers with another UFFDIO_CONTINUE.
 *  - Guest RAM is never mremap()ed. That would take it out of userfaultfd, unnoticed.
 *  - Nothing of this is done by syscall(), which a preload library does not see.
 * vmhop's supervisor checks that every region it announced has arrived before it trusts the VM, so
 * a QEMU that maps its RAM in another way is refused, not corrupted.
 *
 * The interposers allocate nothing, hold no lock across a call and leave errno as libc would.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "qemu-memory-backend/front_config.h"
#include "qemu-memory-backend/front_register.h"
#include "qemu-memory-backend/front_report.h"

static_assert(sizeof(long) == 8 && sizeof(off_t) == 8, "the fallback system calls are 64-bit");

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define EXPORTED __attribute__((visibility("default")))

static struct front the_front;

/* What comes after this library: libc, or another preloaded library. Null until the constructor has
 * run; libraries initialised before this one get the plain system call. */
static struct {
  void* (*mmap)(void*, size_t, int, int, int, off_t);
  int (*munmap)(void*, size_t);
  int (*madvise)(void*, size_t, int);
  int (*fallocate)(int, int, off_t, off_t);
  int (*mlockall)(int);
} next;

static void* next_mmap(void* address, size_t length, int protection, int flags, int fd,
                       off_t offset) {
  if (next.mmap != NULL) return next.mmap(address, length, protection, flags, fd, offset);
  return (void*)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

static int next_munmap(void* address, size_t length) {
  if (next.munmap != NULL) return next.munmap(address, length);
  return (int)syscall(SYS_munmap, address, length);
}

static int next_madvise(void* address, size_t length, int advice) {
  if (next.madvise != NULL) return next.madvise(address, length, advice);
  return (int)syscall(SYS_madvise, address, length, advice);
}

static int next_fallocate(int fd, int mode, off_t offset, off_t length) {
  if (next.fallocate != NULL) return next.fallocate(fd, mode, offset, length);
  return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

static int next_mlockall(int flags) {
  if (next.mlockall != NULL) return next.mlockall(flags);
  return (int)syscall(SYS_mlockall, flags);
}

__attribute__((constructor)) static void start(void) {
  *(void**)&next.mmap = dlsym(RTLD_NEXT, "mmap64");
  *(void**)&next.munmap = dlsym(RTLD_NEXT, "munmap");
  *(void**)&next.madvise = dlsym(RTLD_NEXT, "madvise");
  *(void**)&next.fallocate = dlsym(RTLD_NEXT, "fallocate64");
  *(void**)&next.mlockall = dlsym(RTLD_NEXT, "mlockall");

  char* configuration = getenv(VMHOP_FRONT_VARIABLE);
  if (configuration == NULL) return;
  /* QEMU must not run with RAM that nobody watches. */
  if (!front_configure(&the_front, configuration)) _exit(EXIT_FAILURE);
  front_clean_environment();
  /* RAM that is filled later must not be punched, mapped twice or populated until vmhop says so. */
  if (the_front.mode == FRONT_LAZY) vmhop_front_block(the_front.control);
}

static bool lazy_and_blocked(void) {
  return the_front.mode == FRONT_LAZY && vmhop_front_is_blocked(the_front.control);
}

static int fail_with(int cause) {
  errno = cause;
  return -1;
}

/* The RAM file behind a descriptor, or null. */
static struct ram_file* ram_of_descriptor(int fd) {
  if (the_front.mode == FRONT_OFF || fd < 0) return NULL;
  int saved_errno = errno;
  struct stat info;
  int result = fstat(fd, &info);
  errno = saved_errno;
  if (result != 0) return NULL;
  for (size_t i = 0; i < the_front.ram_count; ++i) {
    struct ram_file* ram = &the_front.ram[i];
    if (ram->device == info.st_dev && ram->inode == info.st_ino) return ram;
  }
  return NULL;
}

/* True if any of the range is RAM as QEMU mapped it. */
static bool is_ram(const void* address, size_t length) {
  uintptr_t begin = (uintptr_t)address;
  for (size_t i = 0; i < the_front.ram_count; ++i) {
    uintptr_t start = atomic_load_explicit(&the_front.ram[i].start, memory_order_acquire);
    if (start != 0 && begin < start + the_front.ram[i].size && start < begin + length) return true;
  }
  return false;
}

/* The range is about to be something else: whatever is mapped there later is none of our business.
 * QEMU unmaps RAM whole (object_del), with the guard page behind it. */
static void forget_ram_within(const void* address, size_t length) {
  uintptr_t begin = (uintptr_t)address;
  for (size_t i = 0; i < the_front.ram_count; ++i) {
    struct ram_file* ram = &the_front.ram[i];
    uintptr_t start = atomic_load_explicit(&ram->start, memory_order_acquire);
    if (start != 0 && begin <= start && start + ram->size <= begin + length) {
      atomic_store_explicit(&ram->start, 0, memory_order_release);
    }
  }
}

/* The second of QEMU's two calls; the first reserves addresses and makes nothing accessible. */
static bool is_qemu_ram_mapping(const struct ram_file* ram, size_t length, int protection,
                                int flags, off_t offset) {
  int type = flags & MAP_TYPE;
  return (protection & PROT_WRITE) != 0 && (flags & MAP_FIXED) != 0 &&
         (type == MAP_SHARED || type == MAP_SHARED_VALIDATE) &&
         (flags & (MAP_POPULATE | MAP_LOCKED)) == 0 && offset == 0 && length == ram->size;
}

/* Takes back a mapping that could not be registered, as far as the reservation it came from. */
static void* undo_mapping(void* address, size_t length, int cause) {
  next_mmap(address, length, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
            0);
  errno = cause;
  return MAP_FAILED;
}

static void* map_ram(struct ram_file* ram, void* address, size_t length, int protection, int flags,
                     int fd, off_t offset) {
  if (!is_qemu_ram_mapping(ram, length, protection, flags, offset)) {
    /* A mapping that is not registered shows zeros where pages are missing. QEMU makes one of a
     * single page when the guest resets after a memory error (qemu_ram_remap). */
    if (protection != PROT_NONE && lazy_and_blocked()) {
      front_report(
          "RAM %s: QEMU maps %zu bytes at offset %lld of %llu, while pages are missing. "
          "The memory backend needs share=on, size=%llu and no offset, readonly or merge "
          "of its own",
          ram->id, length, (long long)offset, (unsigned long long)ram->size,
          (unsigned long long)ram->size);
      errno = EBUSY;
      return MAP_FAILED;
    }
    return next_mmap(address, length, protection, flags, fd, offset);
  }

  void* mapped = next_mmap(address, length, protection, flags, fd, offset);
  if (mapped == MAP_FAILED) return mapped;
  if (the_front.mode == FRONT_LAZY) {
    int cause = front_register(&the_front, ram, fd, mapped);
    if (cause != 0) return undo_mapping(mapped, length, cause);
  }
  atomic_store_explicit(&ram->start, (uintptr_t)mapped, memory_order_release);
  return mapped;
}

EXPORTED void* mmap64(void* address, size_t length, int protection, int flags, int fd,
                      off_t offset) {
  struct ram_file* ram = ram_of_descriptor(fd);
  if (ram != NULL) return map_ram(ram, address, length, protection, flags, fd, offset);
  if ((flags & MAP_FIXED) != 0) forget_ram_within(address, length);
  return next_mmap(address, length, protection, flags, fd, offset);
}

EXPORTED void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  return mmap64(address, length, protection, flags, fd, offset);
}

EXPORTED int munmap(void* address, size_t length) {
  forget_ram_within(address, length);
  return next_munmap(address, length);
}

EXPORTED int madvise(void* address, size_t length, int advice) {
  if (!is_ram(address, length)) return next_madvise(address, length, advice);
  switch (advice) {
    case MADV_HUGEPAGE:
      /* QEMU asks for it after every mapping; a lazy one must stay as front_register() left it. */
      if (the_front.mode == FRONT_LAZY) return 0;
      break;
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
      /* Each page would wait for a relocation that has not begun, with QEMU's big lock held. QEMU
       * takes any errno but EINVAL, which means "not supported", for a failure. */
      if (lazy_and_blocked()) {
        front_report(
            "QEMU preallocates RAM whose pages come from another host. Leave out prealloc "
            "and -mem-prealloc");
        return fail_with(EBUSY);
      }
      break;
    case MADV_REMOVE: { /* punches a hole */
      if (!vmhop_front_punch_begin(the_front.control)) return fail_with(EBUSY);
      int result = next_madvise(address, length, advice);
      vmhop_front_punch_end(the_front.control);
      return result;
    }
    default:
      break;
  }
  return next_madvise(address, length, advice);
}

EXPORTED int posix_madvise(void* address, size_t length, int advice) {
  /* As in glibc: POSIX's DONTNEED promises to keep the data, Linux's does not, so it is ignored. */
  if (advice == POSIX_MADV_DONTNEED) return 0;
  int saved_errno = errno;
  int result = madvise(address, length, advice) == 0 ? 0 : errno;
  errno = saved_errno;
  return result;
}

EXPORTED int fallocate64(int fd, int mode, off_t offset, off_t length) {
  if ((mode & FALLOC_FL_PUNCH_HOLE) == 0 || ram_of_descriptor(fd) == NULL) {
    return next_fallocate(fd, mode, offset, length);
  }
  if (!vmhop_front_punch_begin(the_front.control)) return fail_with(EBUSY);
  int result = next_fallocate(fd, mode, offset, length);
  vmhop_front_punch_end(the_front.control);
  return result;
}

EXPORTED int fallocate(int fd, int mode, off_t offset, off_t length) {
  return fallocate64(fd, mode, offset, length);
}

/* -overcommit mem-lock=on: QEMU locks everything at the end of its start-up, which would wait for
 * every page of RAM, and what is mapped after that is populated before it can be registered. */
EXPORTED int mlockall(int flags) {
  if (lazy_and_blocked()) {
    front_report("QEMU locks RAM whose pages come from another host. Leave out mem-lock=on");
    return fail_with(EBUSY);
  }
  return next_mlockall(flags);
}

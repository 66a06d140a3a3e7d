/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What vmhop and its front inside QEMU say to each other. There are two fronts, the QOM object
 * memory-backend-postcopy and the preload library for a stock QEMU; both speak this. Plain C11 that
 * is C++20 as well, and needs nothing but a compiler with GNU atomics.
 *
 * 1. The handshake, once for each lazily filled RAM region, before QEMU touches it:
 *
 *      front                                               vmhop
 *      map the region, open a userfaultfd, register
 *      the mapping for MISSING|MINOR
 *      connect to the SOCK_SEQPACKET unix socket  ------>
 *      struct vmhop_front_region, with SCM_RIGHTS ------>  check it, start to serve faults
 *      { userfaultfd, duplicate of the RAM memfd }
 *                                                 <------  struct vmhop_front_answer
 *      close the connection, or watch it
 *
 *    One connection carries one region. The preload library offers a lazy region and closes the
 *    connection with the answer, so it needs no state but what the region needs itself. A refusal,
 *    or a connection that ends without an answer, makes the front refuse the region, and QEMU to
 *    start. The front keeps its own reference to the userfaultfd: when the last one goes, later
 *    faults silently get zero pages.
 *
 *    The object offers a watched region, keeps the connection, and a thread of its own reads there
 *    how far the region is:
 *
 *                                                 <------  struct vmhop_front_progress, when
 *                                                          something changed, ten times a second
 *                                                          at most
 *                                                 <------  the last one, with VMHOP_FRONT_DRAINED,
 *                                                          after userfaultfd was unregistered
 *      close userfaultfd and connection, allow
 *      discards again
 *
 *    A connection that ends before VMHOP_FRONT_DRAINED means nothing but that: the object connects
 *    again, every 100 ms and for ever, and offers the same region and descriptors with
 *    VMHOP_FRONT_REGION_AGAIN. `vmhop pager` accepts such a region while nothing has been put into
 * it, and refuses it otherwise: the page map that says what is there is not its own. Refused, the
 *    object goes on trying. vmhop never waits on this connection: QEMU may be frozen.
 *
 * 2. The control page (struct vmhop_front_control): whether QEMU may punch holes into RAM.
 *
 * 3. VMHOP_FRONT, the environment variable that configures the preload library.
 */
#ifndef VMHOP_FRONT_HANDSHAKE_H
#define VMHOP_FRONT_HANDSHAKE_H

#include <assert.h> /* NOLINT(modernize-deprecated-headers): C reads this file too */
#include <stddef.h> /* NOLINT(modernize-deprecated-headers) */
#include <stdint.h> /* NOLINT(modernize-deprecated-headers) */

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the handshake is little-endian: swap the fields of its messages on this machine"
#endif

#define VMHOP_FRONT_REGION_MAGIC 0x52464856U   /* "VHFR" */
#define VMHOP_FRONT_ANSWER_MAGIC 0x41464856U   /* "VHFA" */
#define VMHOP_FRONT_PROGRESS_MAGIC 0x50464856U /* "VHFP" */
#define VMHOP_FRONT_VERSION 1

/* A RAM block's name with its final 0, as in QEMU. */
#define VMHOP_FRONT_ID_SIZE 256

/* Kinds of region; 0 is none. */
#define VMHOP_FRONT_LAZY_REGION 1    /* the connection is over with the answer */
#define VMHOP_FRONT_WATCHED_REGION 2 /* as 1, but the connection stays, for progress */

/* Flags of a watched region. AGAIN: it was accepted before, by a pager that is gone. */
#define VMHOP_FRONT_REGION_AGAIN 1U

/* Position and number of the descriptors that come with a region. */
#define VMHOP_FRONT_FD_USERFAULTFD 0
#define VMHOP_FRONT_FD_MEMFD 1
#define VMHOP_FRONT_FD_COUNT 2

/* One RAM region of this QEMU, mapped and registered. */
struct vmhop_front_region {
  uint32_t magic; /* VMHOP_FRONT_REGION_MAGIC */
  uint16_t version;
  uint16_t kind;
  uint64_t features;            /* UFFD_FEATURE_*: those asked for, all of them granted */
  uint64_t range_ioctls;        /* what UFFDIO_REGISTER said is possible: bit n is 1 << _UFFDIO_x */
  uint64_t host_address;        /* of the mapping, in QEMU; a multiple of page_size */
  uint64_t size;                /* of mapping and memfd; a multiple of page_size */
  uint32_t page_size;           /* of the memfd: the base page, or the huge page of hugetlbfs */
  uint32_t flags;               /* VMHOP_FRONT_REGION_*; 0 of a lazy region */
  char id[VMHOP_FRONT_ID_SIZE]; /* the RAM block's name in QEMU; unused bytes are 0, the last one is
                                 */
};
static_assert(sizeof(struct vmhop_front_region) == 304, "a wire struct");
static_assert(offsetof(struct vmhop_front_region, features) == 8, "no padding");
static_assert(offsetof(struct vmhop_front_region, page_size) == 40, "no padding");
static_assert(offsetof(struct vmhop_front_region, id) == 48, "no padding");

#define VMHOP_FRONT_ACCEPTED 1
#define VMHOP_FRONT_REFUSED 2

struct vmhop_front_answer {
  uint32_t magic; /* VMHOP_FRONT_ANSWER_MAGIC */
  uint16_t version;
  uint16_t status;
  char message[248]; /* why it was refused; unused bytes are 0, the last one is */
};
static_assert(sizeof(struct vmhop_front_answer) == 256, "a wire struct");
static_assert(offsetof(struct vmhop_front_answer, message) == 8, "no padding");

/* Flags of progress. DRAINED: every page is there, userfaultfd is unregistered; the last message.
 */
#define VMHOP_FRONT_DRAINED 1U

struct vmhop_front_progress {
  uint32_t magic; /* VMHOP_FRONT_PROGRESS_MAGIC */
  uint16_t version;
  uint16_t flags;
  uint64_t resident; /* bytes of this region that are there */
  uint64_t faults;   /* served for this region since QEMU offered it first */
};
static_assert(sizeof(struct vmhop_front_progress) == 24, "a wire struct");
static_assert(offsetof(struct vmhop_front_progress, resident) == 8, "no padding");

/* The control page: a memfd that vmhop makes and both sides map. All zeros is valid and blocks
 * nothing.
 *
 * While memory is registered for RDMA, or pages are still missing, a hole punched into RAM would
 * leave the registration, or the filling of a page, with a page that is no longer in the file:
 * silent corruption. So vmhop blocks punching, and must know that none is under way once it has.
 *
 * The front counts itself in, *then* looks at discards_blocked; vmhop sets discards_blocked, *then*
 * looks at the count. All four accesses are sequentially consistent, so they have one order that
 * both sides agree on, and whichever first access came later, its side sees the other's: the front
 * finds punching blocked, or vmhop finds a punch in progress and waits for it. (With release and
 * acquire alone each side could read the other's old value, the store still in its store buffer.)
 * A front that finds punching blocked counts itself out again and answers EBUSY; vmhop may see it
 * for that moment and wait a little longer than it had to, nothing more.
 *
 * punches_done rises before the front counts itself out. So once vmhop has blocked and seen
 * punches_in_progress at zero, punches_done stands still until it is unblocked; if it moves, a
 * front did not keep to this and what vmhop read since cannot be trusted.
 */
struct vmhop_front_control {
  uint32_t discards_blocked;    /* written by vmhop; a front in lazy mode sets it as it starts */
  uint32_t punches_in_progress; /* written by the front, like the rest */
  uint64_t punches_done;        /* holes punched, or attempted: the kernel may have refused it */
  uint64_t punches_refused;     /* punches answered with EBUSY */
  uint64_t reserved[5];         /* 0 */
};
static_assert(sizeof(struct vmhop_front_control) == 64, "shared between processes");
static_assert(offsetof(struct vmhop_front_control, punches_done) == 8, "no padding");

/* Front: 1 if a hole may be punched now (call vmhop_front_punch_end() when it is), 0 if punching is
 * blocked: answer EBUSY. */
static inline int vmhop_front_punch_begin(struct vmhop_front_control* control) {
  /* A look beforehand decides nothing by finding punching allowed, but keeps a front that tries
   * again and again from being counted, and vmhop from waiting for it. */
  if (__atomic_load_n(&control->discards_blocked, __ATOMIC_SEQ_CST) == 0) {
    __atomic_fetch_add(&control->punches_in_progress, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&control->discards_blocked, __ATOMIC_SEQ_CST) == 0) return 1;
    __atomic_fetch_sub(&control->punches_in_progress, 1, __ATOMIC_SEQ_CST);
  }
  __atomic_fetch_add(&control->punches_refused, 1, __ATOMIC_RELAXED);
  return 0;
}

static inline void vmhop_front_punch_end(struct vmhop_front_control* control) {
  __atomic_fetch_add(&control->punches_done, 1, __ATOMIC_RELAXED);
  __atomic_fetch_sub(&control->punches_in_progress, 1, __ATOMIC_SEQ_CST);
}

/* Either side: punching is refused from here on, but for what is in progress. */
static inline void vmhop_front_block(struct vmhop_front_control* control) {
  __atomic_store_n(&control->discards_blocked, 1, __ATOMIC_SEQ_CST);
}

/* vmhop alone. */
static inline void vmhop_front_unblock(struct vmhop_front_control* control) {
  __atomic_store_n(&control->discards_blocked, 0, __ATOMIC_SEQ_CST);
}

static inline int vmhop_front_is_blocked(struct vmhop_front_control* control) {
  return __atomic_load_n(&control->discards_blocked, __ATOMIC_SEQ_CST) != 0;
}

/* vmhop, having blocked: 0 once nothing is punching any more. */
static inline uint32_t vmhop_front_punches_in_progress(struct vmhop_front_control* control) {
  return __atomic_load_n(&control->punches_in_progress, __ATOMIC_SEQ_CST);
}

/* The preload library's configuration, in one variable that it removes before QEMU starts:
 *
 *   VMHOP_FRONT=v=1;mode=lazy;control=FD;ram=FD:ID[,FD:ID]...;socket=PATH
 *   VMHOP_FRONT=v=1;mode=export;control=FD;ram=FD:ID[,FD:ID]...
 *
 * v        comes first; the library refuses a version that is not its own.
 * mode     lazy: register RAM with userfaultfd as QEMU maps it, and obey the control page.
 *          export: obey the control page.
 * control  the inherited descriptor of the control page.
 * ram      for each RAM file its inherited descriptor, already sized, and the id of its memory
 *          backend. Letters, digits, '-', '.' and '_' are all that QEMU allows in an id, so nothing
 *          needs quoting.
 * socket   the absolute path of the handshake's socket; comes last and reaches to the end of the
 *          variable, so a path may contain anything.
 */
#define VMHOP_FRONT_VARIABLE "VMHOP_FRONT"
#define VMHOP_FRONT_MAX_REGIONS 64

#endif

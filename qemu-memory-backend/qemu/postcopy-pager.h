/*
 * What memory-backend-postcopy and its pager say to each other
 *
 * Copyright (C) 2026 vmhop developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * The pager listens on a SOCK_SEQPACKET unix socket. For each memory backend
 * QEMU connects, and sends a PostcopyPagerRegion with two descriptors
 * (SCM_RIGHTS): the userfaultfd that the memory is registered with for
 * missing and minor faults, and the memfd. The pager answers with a
 * PostcopyPagerAnswer. After POSTCOPY_PAGER_ACCEPTED it serves the faults,
 * and sends a PostcopyPagerProgress whenever it has news, the last one with
 * POSTCOPY_PAGER_DRAINED: every page is there, the memory is not registered
 * any more.
 *
 * A connection that ends before that is a pager that died. QEMU connects
 * again until somebody accepts the region, which then has
 * POSTCOPY_PAGER_REGION_AGAIN set.
 *
 * All numbers are in host byte order: both ends are on one host. Reserved
 * fields and unused bytes of strings are zero, also the last one.
 */

#ifndef QEMU_POSTCOPY_PAGER_H
#define QEMU_POSTCOPY_PAGER_H

#define POSTCOPY_PAGER_REGION_MAGIC     0x52464856U /* "VHFR" */
#define POSTCOPY_PAGER_ANSWER_MAGIC     0x41464856U /* "VHFA" */
#define POSTCOPY_PAGER_PROGRESS_MAGIC   0x50464856U /* "VHFP" */
#define POSTCOPY_PAGER_VERSION          1

/* PostcopyPagerRegion.kind: the connection stays for progress */
#define POSTCOPY_PAGER_WATCHED_REGION   2

/* PostcopyPagerRegion.flags: accepted before, by a pager that is gone */
#define POSTCOPY_PAGER_REGION_AGAIN     1U

/* Descriptors that come with a region: position and number */
#define POSTCOPY_PAGER_FD_USERFAULTFD   0
#define POSTCOPY_PAGER_FD_MEMFD         1
#define POSTCOPY_PAGER_FD_COUNT         2

typedef struct PostcopyPagerRegion {
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint64_t features;      /* UFFD_FEATURE_* asked for, and granted */
    uint64_t range_ioctls;  /* bit n: 1 << _UFFDIO_x is possible */
    uint64_t host_address;  /* of the mapping in QEMU */
    uint64_t size;          /* of mapping and memfd */
    uint32_t page_size;     /* of the memfd */
    uint32_t flags;
    char id[256];           /* of the RAM block */
} PostcopyPagerRegion;

/* PostcopyPagerAnswer.status */
#define POSTCOPY_PAGER_ACCEPTED         1
#define POSTCOPY_PAGER_REFUSED          2

typedef struct PostcopyPagerAnswer {
    uint32_t magic;
    uint16_t version;
    uint16_t status;
    char message[248];      /* why it was refused */
} PostcopyPagerAnswer;

/* PostcopyPagerProgress.flags */
#define POSTCOPY_PAGER_DRAINED          1U

typedef struct PostcopyPagerProgress {
    uint32_t magic;
    uint16_t version;
    uint16_t flags;
    uint64_t resident;      /* bytes of this region that are there */
    uint64_t faults;        /* served for this region */
} PostcopyPagerProgress;

#endif /* QEMU_POSTCOPY_PAGER_H */

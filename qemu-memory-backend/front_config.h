/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What the preload library was told in VMHOP_FRONT, and the RAM files it watches. */
#ifndef VMHOP_FRONT_CONFIG_H
#define VMHOP_FRONT_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

#include "qemu-memory-backend/front_handshake.h"

enum front_mode {
  FRONT_OFF, /* no VMHOP_FRONT: every call goes straight to libc */
  FRONT_LAZY,
  FRONT_EXPORT,
};

/* A memfd that is a memory backend of this QEMU, recognised by device and inode: QEMU opens it
 * again under another number. All but `start` is constant once configured. */
struct ram_file {
  dev_t device;
  ino_t inode;
  uint64_t size;
  uint32_t page_size;
  bool hugetlb;
  char id[VMHOP_FRONT_ID_SIZE];
  _Atomic(uintptr_t) start; /* where QEMU mapped it, 0 when it did not */
};

struct front {
  enum front_mode mode;
  struct vmhop_front_control* control;
  struct sockaddr_un socket; /* lazy mode */
  size_t ram_count;
  struct ram_file ram[VMHOP_FRONT_MAX_REGIONS];
};

/* Fills `front` from the value of VMHOP_FRONT, which it destroys: maps the control page, looks at
 * the RAM files, makes the inherited descriptors close-on-exec. False, with a report, if anything
 * is not as it should be. */
bool front_configure(struct front* front, char* value);

/* Removes VMHOP_FRONT and this library's own entry of LD_PRELOAD from the environment, so that
 * nothing QEMU starts inherits them. Other preloaded libraries stay. */
void front_clean_environment(void);

#endif

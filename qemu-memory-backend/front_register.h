/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef VMHOP_FRONT_REGISTER_H
#define VMHOP_FRONT_REGISTER_H

#include "qemu-memory-backend/front_config.h"

/* Registers QEMU's mapping of `ram` at `address` with a userfaultfd of its own and hands that and
 * `memfd` to vmhop. From success on, every page that is not there raises a fault that vmhop
 * resolves. 0, or an errno value with a report of cause and remedy; nothing is registered then. */
int front_register(const struct front* front, const struct ram_file* ram, int memfd, void* address);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef VMHOP_FRONT_REPORT_H
#define VMHOP_FRONT_REPORT_H

/* One line on QEMU's stderr, written at once; for errors alone. */
__attribute__((format(printf, 1, 2))) void front_report(const char* format, ...);

#endif

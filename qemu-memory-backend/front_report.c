/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-memory-backend/front_report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void front_report(const char* format, ...) {
  static const char prefix[] = "vmhop: preload library in QEMU: ";
  int saved_errno = errno;
  char line[1024];
  size_t used = sizeof prefix - 1;
  memcpy(line, prefix, used);

  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line + used, sizeof line - used, format, arguments);
  va_end(arguments);
  if (length > 0) used += (size_t)length;
  if (used > sizeof line - 2) used = sizeof line - 2; /* vsnprintf cut it */
  line[used++] = '\n';

  /* stdio's stderr belongs to QEMU and may be locked. Nothing can be done if this fails. */
  ssize_t written = write(STDERR_FILENO, line, used);
  (void)written;
  errno = saved_errno;
}

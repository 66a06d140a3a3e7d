/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * VMHOP_FRONT as the preload library reads it inside of QEMU. C, since front_config.h is. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qemu-memory-backend/front_config.h"
#include "qemu-memory-backend/front_report.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

/* In place of the library's own: formats as it does, and says nothing. */
void front_report(const char* format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
}

/* Numbers that the seeds name: a control page, and RAM. */
enum { CONTROL = 200, RAM = 201, LAST_RAM = 203 };

static void open_descriptors(void) {
  for (int number = CONTROL; number <= LAST_RAM; ++number) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 4096) != 0 || dup2(fd, number) < 0) abort();
    close(fd);
  }
}

static void require(bool holds) {
  if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static bool is_open;
  if (!is_open) open_descriptors();
  is_open = true;

  /* As large as the text, so that ASan sees each byte beyond it. */
  char* value = malloc(size + 1);
  struct front* front = calloc(1, sizeof *front);
  if (value == NULL || front == NULL) abort();
  if (size > 0) memcpy(value, data, size);
  value[size] = '\0';
  if (front_configure(front, value)) {
    require(front->mode == FRONT_LAZY || front->mode == FRONT_EXPORT);
    require(front->control != NULL);
    require((front->mode == FRONT_LAZY) == (front->socket.sun_path[0] == '/'));
    require(front->ram_count >= 1 && front->ram_count <= VMHOP_FRONT_MAX_REGIONS);
    for (size_t i = 0; i < front->ram_count; ++i)
      require(front->ram[i].id[0] != '\0' && front->ram[i].size > 0);
  } else {
    require(front->mode == FRONT_OFF);
  }
  if (front->control != NULL) munmap(front->control, sizeof *front->control);
  free(front);
  free(value);
  return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemu-memory-backend/front_config.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "qemu-memory-backend/front_report.h"

static bool parse_descriptor(const char* text, int* descriptor) {
  char* end = NULL;
  errno = 0;
  long number = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || number < 0 || number > 0xFFFFFF) return false;
  *descriptor = (int)number;
  return true;
}

static bool is_qemu_id(const char* id) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  static const char others[] = "0123456789-._";
  if (*id == '\0' || strchr(letters, *id) == NULL) return false;
  for (; *id != '\0'; ++id) {
    if (strchr(letters, *id) == NULL && strchr(others, *id) == NULL) return false;
  }
  return true;
}

/* FD:ID */
static bool add_ram_file(struct front* front, char* text) {
  char* colon = strchr(text, ':');
  int descriptor = -1;
  if (colon == NULL) goto malformed;
  *colon = '\0';
  const char* id = colon + 1;
  if (!parse_descriptor(text, &descriptor) || !is_qemu_id(id)) goto malformed;
  if (front->ram_count == VMHOP_FRONT_MAX_REGIONS || strlen(id) >= VMHOP_FRONT_ID_SIZE) {
    front_report("RAM %s: more than %d regions, or an id of more than %d bytes", id,
                 VMHOP_FRONT_MAX_REGIONS, VMHOP_FRONT_ID_SIZE - 1);
    return false;
  }

  struct stat info;
  struct statfs file_system;
  if (fstat(descriptor, &info) != 0 || fstatfs(descriptor, &file_system) != 0) {
    front_report(
        "RAM %s: descriptor %d: %s. QEMU must be started by vmhop itself, not through a "
        "wrapper",
        id, descriptor, strerror(errno));
    return false;
  }
  bool hugetlb = file_system.f_type == HUGETLBFS_MAGIC;
  if ((!hugetlb && file_system.f_type != TMPFS_MAGIC) || info.st_size <= 0) {
    front_report("RAM %s: descriptor %d is not a memory file with a size", id, descriptor);
    return false;
  }
  /* Open until QEMU has opened /proc/self/fd/N, and no longer than QEMU itself. */
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);

  struct ram_file* ram = &front->ram[front->ram_count++];
  ram->device = info.st_dev;
  ram->inode = info.st_ino;
  ram->size = (uint64_t)info.st_size;
  ram->page_size = (uint32_t)(hugetlb ? file_system.f_bsize : sysconf(_SC_PAGESIZE));
  ram->hugetlb = hugetlb;
  memcpy(ram->id, id, strlen(id) + 1);
  return true;

malformed:
  front_report("%s: ram: '%s' is not FD:ID", VMHOP_FRONT_VARIABLE, text);
  return false;
}

static bool add_ram_files(struct front* front, char* list) {
  char* rest = NULL;
  for (char* entry = strtok_r(list, ",", &rest); entry; entry = strtok_r(NULL, ",", &rest)) {
    if (!add_ram_file(front, entry)) return false;
  }
  return true;
}

static bool map_control_page(struct front* front, const char* text) {
  int descriptor = -1;
  if (!parse_descriptor(text, &descriptor)) {
    front_report("%s: control: '%s' is not a descriptor", VMHOP_FRONT_VARIABLE, text);
    return false;
  }
  struct stat info;
  if (fstat(descriptor, &info) != 0 || info.st_size < (off_t)sizeof *front->control) {
    front_report(
        "descriptor %d is not the control page. QEMU must be started by vmhop itself, not "
        "through a wrapper",
        descriptor);
    return false;
  }
  /* Stays open: a supervisor that recovers this VM finds it in /proc/PID/fd. */
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  void* page =
      mmap(NULL, sizeof *front->control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (page == MAP_FAILED) {
    front_report("mapping the control page: %s", strerror(errno));
    return false;
  }
  front->control = page;
  return true;
}

static bool set_socket(struct front* front, const char* path) {
  if (path[0] != '/' || strlen(path) >= sizeof front->socket.sun_path) {
    front_report("%s: socket: '%s' is not an absolute path of less than %zu bytes",
                 VMHOP_FRONT_VARIABLE, path, sizeof front->socket.sun_path);
    return false;
  }
  front->socket.sun_family = AF_UNIX;
  memcpy(front->socket.sun_path, path, strlen(path) + 1);
  return true;
}

static bool set_mode(enum front_mode* mode, const char* name) {
  if (strcmp(name, "lazy") == 0) {
    *mode = FRONT_LAZY;
  } else if (strcmp(name, "export") == 0) {
    *mode = FRONT_EXPORT;
  } else {
    front_report("%s: unknown mode '%s'", VMHOP_FRONT_VARIABLE, name);
    return false;
  }
  return true;
}

static bool set_field(struct front* front, enum front_mode* mode, char* field) {
  char* value = strchr(field, '=');
  if (value != NULL) *value++ = '\0';
  if (value != NULL && strcmp(field, "mode") == 0 && *mode == FRONT_OFF) {
    return set_mode(mode, value);
  }
  if (value != NULL && strcmp(field, "control") == 0 && front->control == NULL) {
    return map_control_page(front, value);
  }
  if (value != NULL && strcmp(field, "ram") == 0 && front->ram_count == 0) {
    return add_ram_files(front, value);
  }
  front_report("%s: field '%s' is unknown, empty or there twice", VMHOP_FRONT_VARIABLE, field);
  return false;
}

bool front_configure(struct front* front, char* value) {
  /* No other field can hold ";socket=", so its first occurrence is the field. */
  static const char socket_field[] = ";socket=";
  char* socket = strstr(value, socket_field);
  if (socket != NULL) {
    *socket = '\0';
    if (!set_socket(front, socket + sizeof socket_field - 1)) return false;
  }

  char* rest = NULL;
  const char* version = strtok_r(value, ";", &rest);
  if (version == NULL || strcmp(version, "v=1") != 0) {
    front_report(
        "%s begins with '%s' where this library knows 'v=1': library and vmhop are not of "
        "one version",
        VMHOP_FRONT_VARIABLE, version == NULL ? "" : version);
    return false;
  }
  enum front_mode mode = FRONT_OFF;
  for (char* field = strtok_r(NULL, ";", &rest); field; field = strtok_r(NULL, ";", &rest)) {
    if (!set_field(front, &mode, field)) return false;
  }
  if (mode == FRONT_OFF || front->control == NULL || front->ram_count == 0 ||
      (mode == FRONT_LAZY) != (socket != NULL)) {
    front_report("%s lacks mode, control or ram; or has a socket and is not lazy, or the reverse",
                 VMHOP_FRONT_VARIABLE);
    return false;
  }
  front->mode = mode; /* last: from here on the interposers act */
  return true;
}

static bool is_this_library(const char* path) {
  static const char inside_this_library;
  Dl_info self;
  if (dladdr(&inside_this_library, &self) == 0) return false;
  if (strchr(path, '/') == NULL) { /* found by the loader's search path */
    const char* slash = strrchr(self.dli_fname, '/');
    return strcmp(path, slash != NULL ? slash + 1 : self.dli_fname) == 0;
  }
  struct stat mine;
  struct stat other;
  return stat(self.dli_fname, &mine) == 0 && stat(path, &other) == 0 &&
         mine.st_dev == other.st_dev && mine.st_ino == other.st_ino;
}

void front_clean_environment(void) {
  unsetenv(VMHOP_FRONT_VARIABLE);

  char* preload = getenv("LD_PRELOAD");
  if (preload == NULL) return;
  /* The loader takes spaces and colons for separators. The list only shrinks: rewrite it in place,
   * reading ahead of the writing. */
  char* kept_end = preload;
  char* rest = NULL;
  for (char* path = strtok_r(preload, " :", &rest); path; path = strtok_r(NULL, " :", &rest)) {
    if (is_this_library(path)) continue;
    size_t length = strlen(path);
    if (kept_end != preload) *kept_end++ = ':';
    memmove(kept_end, path, length);
    kept_end += length;
  }
  *kept_end = '\0';
  if (kept_end == preload) unsetenv("LD_PRELOAD");
}

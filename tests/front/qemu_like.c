// Stands in for QEMU under the preload library: maps RAM with the two calls QEMU makes, and does
// to it what the lines on its stdin say. Each is answered by one line: "ok VALUE" or "error ERRNO".
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned char* ram;
static size_t ram_size;
static int ram_file = -1;

static void answer(int failed, uintptr_t value) {
  if (failed) {
    printf("error %d\n", errno);
  } else {
    printf("ok %#lx\n", (unsigned long)value);
  }
  fflush(stdout);
}

// util/mmap-alloc.c: a reservation with a guard page, then the file over it (as with reserve=off,
// so that huge pages can be mapped where there are none).
static void map_as_qemu(int file) {
  struct stat info;
  if (fstat(file, &info) != 0) {
    answer(1, 0);
    return;
  }
  ram_file = file;
  ram_size = (size_t)info.st_size;
  const size_t huge_page = 2 << 20;
  size_t guarded = ram_size + 2 * huge_page;
  void* reserved = mmap(NULL, guarded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  void* aligned = (void*)(((uintptr_t)reserved + huge_page - 1) & ~(huge_page - 1));
  void* mapped = mmap64(aligned, ram_size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file, 0);
  if (mapped == MAP_FAILED) {
    int cause = errno;
    munmap(reserved, guarded);
    errno = cause;
    answer(1, 0);
    return;
  }
  ram = mapped;
  answer(0, (uintptr_t)mapped);
}

static void map_own(size_t size) {
  int file = memfd_create("qemu-like", MFD_CLOEXEC);
  if (file >= 0 && ftruncate(file, (off_t)size) != 0) exit(EXIT_FAILURE);
  map_as_qemu(file);
}

// As QEMU replaces a page after a memory error.
static void remap(off_t offset, size_t length) {
  void* mapped =
      mmap(ram + offset, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, ram_file, offset);
  answer(mapped == MAP_FAILED, (uintptr_t)mapped);
}

static void run_child(const char* command) {
  FILE* child = popen(command, "r");
  if (child == NULL) exit(EXIT_FAILURE);
  char line[4096];
  while (fgets(line, sizeof line, child) != NULL)
    fputs(line, stdout);
  answer(pclose(child) != 0, 0);
}

int main(void) {
  char line[4096];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    char* rest = line;
    const char* command = strsep(&rest, " ");
    if (strcmp(command, "run") == 0) {
      run_child(rest);
      continue;
    }
    if (strcmp(command, "map") == 0) {
      // Opened again, by path, as memory-backend-file does.
      map_as_qemu(open(rest, O_RDWR | O_CLOEXEC));
      continue;
    }
    unsigned long first = rest != NULL ? strtoul(rest, &rest, 0) : 0;
    unsigned long second = rest != NULL ? strtoul(rest, &rest, 0) : 0;
    if (strcmp(command, "map-own") == 0) {
      map_own(first);
    } else if (strcmp(command, "map-again") == 0) {
      void* mapped = mmap(NULL, ram_size, PROT_READ, MAP_SHARED, ram_file, 0);
      answer(mapped == MAP_FAILED, (uintptr_t)mapped);
    } else if (strcmp(command, "remap") == 0) {
      remap((off_t)first, second);
    } else if (strcmp(command, "unmap") == 0) {
      answer(munmap(ram, ram_size) != 0, 0);
    } else if (strcmp(command, "read") == 0) {
      answer(0, ((volatile unsigned char*)ram)[first]);
    } else if (strcmp(command, "write") == 0) {
      ((volatile unsigned char*)ram)[first] = (unsigned char)second;
      answer(0, 0);
    } else if (strcmp(command, "punch") == 0) {
      int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      answer(fallocate64(ram_file, mode, (off_t)first, (off_t)second) != 0, 0);
    } else if (strcmp(command, "remove") == 0) {
      answer(madvise(ram + first, second, MADV_REMOVE) != 0, 0);
    } else if (strcmp(command, "advise") == 0) {
      answer(madvise(ram, ram_size, (int)first) != 0, 0);
    } else if (strcmp(command, "mlockall") == 0) {
      answer(mlockall(MCL_CURRENT | MCL_FUTURE) != 0, 0);
    } else {
      fprintf(stderr, "unknown command %s\n", command);
      return EXIT_FAILURE;
    }
  }
  return EXIT_SUCCESS;
}

/*
 * A guest without an operating system: rewrites and checks RAM, reports on the first serial port.
 * It starts in milliseconds and runs where no Linux guest does (start.S says why).
 *
 * RAM from 2 MiB on is cut in two: first the patterned pages, then the zero pages. A patterned page
 * holds its generation, its index and a body of which every word follows from the two.
 *
 * Command line (-append), all optional:
 *   mib=N             watch RAM up to N MiB; to the end of RAM below 4 GiB unless told
 *   mode=rewrite      check each page and write the next generation, in every pass (the default)
 *   mode=touchonce    write once, then only check
 *   mode=random       ... write once, then rewrite pages in random order and check none
 *   rate=N              ... N pages a second, what was missed is not made up for; 0 (the default):
 *                       none, the CPU spins
 *   tsc_khz=N           ... by a time stamp counter of that frequency
 *   populate=full     touch every page (the default)
 *   populate=alternate  in the lower half of the patterned pages touch every other one only
 *   stride=N            ... every Nth one only
 *   zeros=N           the last N MiB are written with zeros once and then checked
 *
 * Lines printed, each ended by '\n':
 *   BM READY pages=<n> zeros=<n> end_mib=<n>      all is written once (pages, zeros: those in use)
 *   BM PASS <n> errors=<e> checksum=<hex>      a pass is done; checksum: the sum of all words
 *   BM WROTE <n>                                  mode=random: so many pages so far
 *   BM ERROR page=<address/4096> expected=<hex> got=<hex> word=<w>
 *   BM STATUS pass=<n> errors=<e>                 the answer to the byte 's'
 *   BM BYE pass=<n> errors=<e>                    the answer to the byte 'q'; power off follows
 */
#include <stddef.h>
#include <stdint.h>

#include "machine.h"
#include "random_writer.h"

enum {
  PAGE_SIZE = 4096,
  WORDS_PER_PAGE = PAGE_SIZE / sizeof(uint32_t),
  FIRST_PAGE = (2 << 20) / PAGE_SIZE,
  PAGES_PER_MIB = (1 << 20) / PAGE_SIZE,
  MOST_ERROR_LINES = 100,
  PAGES_BETWEEN_READS = 64, /* of the serial port, which is slow under KVM */
};

/* Of Xen's public/arch-x86/hvm/start_info.h. */
struct start_info {
  uint32_t magic, version, flags, module_count;
  uint64_t modules, command_line, rsdp, memory_map;
  uint32_t memory_map_entries, reserved;
};
struct memory_map_entry {
  uint64_t address, size;
  uint32_t type, reserved;
};
enum { MEMORY_MAP_RAM = 1 };

/* Pages of RAM, `stride` apart. */
struct part {
  uint32_t first, end, stride;
};

struct plan {
  struct part sparse, dense, zeros;
  int touch_once;
  int random;
  struct random_writer writer;
};

static uint32_t passes, errors, checksum;

/* ---- output ---- */

static void print_number(uint32_t value, uint32_t base) {
  char digits[11];
  char* at = digits + sizeof digits - 1;
  *at = 0;
  do {
    *--at = "0123456789abcdef"[value % base];
    value /= base;
  } while (value);
  serial_print(at);
}

static void print_field(const char* name, uint32_t value, uint32_t base) {
  serial_print(name);
  print_number(value, base);
}

static void report_error(uint32_t page, uint32_t word, uint32_t expected, uint32_t got) {
  if (++errors > MOST_ERROR_LINES) {
    return;
  }
  print_field("BM ERROR page=", page, 10);
  print_field(" expected=", expected, 16);
  print_field(" got=", got, 16);
  print_field(" word=", word, 10);
  serial_print("\n");
}

static void obey(int command) {
  if (command == 's') {
    print_field("BM STATUS pass=", passes, 10);
    print_field(" errors=", errors, 10);
    serial_print("\n");
  } else if (command == 'q') {
    print_field("BM BYE pass=", passes, 10);
    print_field(" errors=", errors, 10);
    serial_print("\n");
    power_off();
  }
}

static void report_written(uint32_t pages) {
  print_field("BM WROTE ", pages, 10);
  serial_print("\n");
  obey(serial_read());
}

/* ---- memory ---- */

static volatile uint32_t* words_of(uint32_t page) {
  return (volatile uint32_t*)((uintptr_t)page * PAGE_SIZE);
}

static uint32_t body_seed(uint32_t page, uint32_t generation) {
  return (page + 1) * 0x9e3779b9u ^ (generation + 1) * 0x85ebca6bu;
}

static uint32_t next_body_word(uint32_t* state) {
  return *state = *state * 1664525u + 1013904223u;
}

static void fill(uint32_t page, uint32_t generation) {
  volatile uint32_t* words = words_of(page);
  uint32_t state = body_seed(page, generation);
  words[0] = generation;
  words[1] = page;
  for (uint32_t word = 2; word < WORDS_PER_PAGE; word++) {
    words[word] = next_body_word(&state);
  }
}

static void fill_zeros(uint32_t page) {
  volatile uint32_t* words = words_of(page);
  for (uint32_t word = 0; word < WORDS_PER_PAGE; word++) {
    words[word] = 0;
  }
}

/* Reports the first wrong word only. Returns whether there is none. */
static int check(uint32_t page, uint32_t generation) {
  volatile uint32_t* words = words_of(page);
  uint32_t state = body_seed(page, generation);
  for (uint32_t word = 0; word < WORDS_PER_PAGE; word++) {
    uint32_t expected = word == 0 ? generation : word == 1 ? page : next_body_word(&state);
    uint32_t got = words[word];
    checksum += got;
    if (got != expected) {
      report_error(page, word, expected, got);
      return 0;
    }
  }
  return 1;
}

static int check_zeros(uint32_t page) {
  volatile uint32_t* words = words_of(page);
  for (uint32_t word = 0; word < WORDS_PER_PAGE; word++) {
    uint32_t got = words[word];
    if (got != 0) {
      report_error(page, word, 0, got);
      return 0;
    }
  }
  return 1;
}

static void fill_part(const struct part* part, uint32_t generation) {
  for (uint32_t page = part->first; page < part->end; page += part->stride) {
    fill(page, generation);
    if (page % PAGES_BETWEEN_READS == 0) {
      obey(serial_read());
    }
  }
}

/* A page that is wrong is put right, so that each corruption counts once. */
static void check_part(const struct part* part, uint32_t generation, uint32_t next_generation) {
  for (uint32_t page = part->first; page < part->end; page += part->stride) {
    if (!check(page, generation) || next_generation != generation) {
      fill(page, next_generation);
    }
    if (page % PAGES_BETWEEN_READS == 0) {
      obey(serial_read());
    }
  }
}

static void check_zeros_part(const struct part* part) {
  for (uint32_t page = part->first; page < part->end; page++) {
    if (!check_zeros(page)) {
      fill_zeros(page);
    }
    if (page % PAGES_BETWEEN_READS == 0) {
      obey(serial_read());
    }
  }
}

static uint32_t pages_in(const struct part* part) {
  return (part->end - part->first + part->stride - 1) / part->stride;
}

/* ---- what is asked for ---- */

/* The text after `name=` in the command line, or null. */
static const char* option(const char* command_line, const char* name) {
  for (const char* at = command_line; *at; at++) {
    if (at != command_line && at[-1] != ' ') {
      continue;
    }
    size_t i = 0;
    while (name[i] && at[i] == name[i]) {
      i++;
    }
    if (!name[i] && at[i] == '=') {
      return at + i + 1;
    }
  }
  return NULL;
}

static uint32_t number_option(const char* command_line, const char* name, uint32_t otherwise) {
  const char* at = option(command_line, name);
  if (!at) {
    return otherwise;
  }
  uint32_t value = 0;
  for (; *at >= '0' && *at <= '9'; at++) {
    value = value * 10 + (uint32_t)(*at - '0');
  }
  return value;
}

/* The first page after the RAM that holds the watched range's beginning. */
static uint32_t end_of_ram(const struct start_info* info) {
  const struct memory_map_entry* map = (const void*)info->memory_map;
  for (uint32_t i = 0; info->version >= 1 && i < info->memory_map_entries; i++) {
    uint32_t first = (uint32_t)(map[i].address / PAGE_SIZE);
    uint32_t end = (uint32_t)((map[i].address + map[i].size) / PAGE_SIZE);
    if (map[i].type == MEMORY_MAP_RAM && first <= FIRST_PAGE && end > FIRST_PAGE) {
      return end;
    }
  }
  return 0;
}

static struct plan make_plan(const struct start_info* info) {
  const char* line = info->command_line ? (const char*)info->command_line : "";
  const char* populate = option(line, "populate");
  const char* mode = option(line, "mode");
  uint32_t stride = number_option(line, "stride", populate && *populate == 'a' ? 2 : 1);
  uint32_t zeros = number_option(line, "zeros", 0) * PAGES_PER_MIB;
  uint32_t ram_end = end_of_ram(info);
  uint32_t end = number_option(line, "mib", ram_end / PAGES_PER_MIB) * PAGES_PER_MIB;
  if (ram_end && end > ram_end) {
    end = ram_end;
  }
  if (end < FIRST_PAGE) {
    end = FIRST_PAGE;
  }
  if (zeros > end - FIRST_PAGE) {
    zeros = end - FIRST_PAGE;
  }
  uint32_t patterned_end = end - zeros;
  uint32_t middle = FIRST_PAGE + (patterned_end - FIRST_PAGE) / 2;
  return (struct plan){
      .sparse = {FIRST_PAGE, middle, stride ? stride : 1},
      .dense = {middle, patterned_end, 1},
      .zeros = {patterned_end, end, 1},
      .touch_once = mode && *mode == 't',
      .random = mode && *mode == 'r' && mode[1] == 'a',
      .writer = {.first_page = FIRST_PAGE,
                 .pages = patterned_end - FIRST_PAGE,
                 .pages_per_second = number_option(line, "rate", 0),
                 .tsc_khz = number_option(line, "tsc_khz", 0)},
  };
}

void guest_main(const struct start_info* info);

void guest_main(const struct start_info* info) {
  serial_open();
  const struct plan plan = make_plan(info);

  uint32_t generation = 1;
  fill_part(&plan.sparse, generation);
  fill_part(&plan.dense, generation);
  for (uint32_t page = plan.zeros.first; page < plan.zeros.end; page++) {
    fill_zeros(page);
  }
  print_field("BM READY pages=", pages_in(&plan.sparse) + pages_in(&plan.dense), 10);
  print_field(" zeros=", pages_in(&plan.zeros), 10);
  print_field(" end_mib=", plan.zeros.end / PAGES_PER_MIB, 10);
  serial_print("\n");

  if (plan.random) {
    random_writer_run(&plan.writer, report_written);
  }
  for (;;) {
    uint32_t next = plan.touch_once ? generation : generation + 1;
    checksum = 0;
    check_part(&plan.sparse, generation, next);
    check_part(&plan.dense, generation, next);
    check_zeros_part(&plan.zeros);
    obey(serial_read());
    generation = next;
    passes++;
    print_field("BM PASS ", passes, 10);
    print_field(" errors=", errors, 10);
    print_field(" checksum=", checksum, 16);
    serial_print("\n");
  }
}

#include "random_writer.h"

enum {
  PAGE_SIZE = 4096,
  /* One word in each cache line makes the whole page different, for a sixteenth of the time. */
  WORDS_BETWEEN_WRITES = 64 / sizeof(uint32_t),
  REPORTS_PER_SECOND = 100,
};

static uint64_t time_stamp(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

static void rewrite(uint32_t page, uint32_t value) {
  volatile uint32_t* words = (volatile uint32_t*)((uintptr_t)page * PAGE_SIZE);
  for (uint32_t word = 0; word < PAGE_SIZE / sizeof(uint32_t); word += WORDS_BETWEEN_WRITES) {
    words[word] = value;
  }
}

/* Ring 3 may not halt. */
_Noreturn static void spin(void) {
  for (;;) {
    __asm__ volatile("pause");
  }
}

_Noreturn void random_writer_run(const struct random_writer* writer,
                                 void (*report)(uint32_t pages)) {
  if (!writer->pages_per_second || !writer->tsc_khz || !writer->pages) {
    spin();
  }
  const uint64_t second = (uint64_t)writer->tsc_khz * 1000;
  const uint64_t pause = second / writer->pages_per_second;
  const uint32_t between_reports = writer->pages_per_second / REPORTS_PER_SECOND + 1;
  uint32_t random = 1;
  uint64_t due = time_stamp();
  for (uint32_t written = 1;; written++) {
    random = random * 1664525u + 1013904223u;
    rewrite(writer->first_page + (uint32_t)((uint64_t)random * writer->pages >> 32), random);
    if (written % between_reports == 0) {
      report(written);
    }
    uint64_t now = time_stamp();
    /* A few pages late is jitter; more than that is lost. */
    due = now > due + 64 * pause ? now : due + pause;
    while (now < due) {
      __asm__ volatile("pause");
      now = time_stamp();
    }
  }
}

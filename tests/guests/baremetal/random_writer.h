/* The load that migration by copying cannot follow: pages written in random order, at a rate. */
#pragma once

#include <stdint.h>

struct random_writer {
  uint32_t first_page, pages;
  uint32_t pages_per_second; /* 0: none, the CPU spins */
  uint32_t tsc_khz;
};

/* Calls `report` with the number of pages written so far, about a hundred times a second. */
_Noreturn void random_writer_run(const struct random_writer* writer,
                                 void (*report)(uint32_t pages));

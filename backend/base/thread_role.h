// What a thread does: its name in /proc, and who goes first where CPUs are short.
//
// Where source, destination and a guest shared two CPUs, and both sides precached, a fault took 0.7
// to 2.9 ms at the median and 8 ms at the 99th percentile with all threads alike, mostly waiting
// for a CPU at each hand-over; with these roles it takes 0.07 ms and 0.6 to 0.9 ms (bench/fault).
#pragma once

namespace vmhop {

enum class ThreadRole {
  // Somebody waits for every microsecond of it, and it works briefly: nice -10 where that is
  // permitted (CAP_SYS_NICE or RLIMIT_NICE), time slices of 0.1 ms where the kernel knows such
  // (Linux 6.12). No real-time class: a thread that spins for an answer would keep away the one
  // that gives it.
  kFault,
  // Hands a VM over: between its stop and its resume a dozen messages pass, each from one waiting
  // thread to the next, while a guest or precaching may keep every CPU busy. As kFault.
  kSwitch,
  // Works as long as there is work, and nobody waits for any of it: nice 5, and no claim to a CPU
  // just because it woke up (SCHED_BATCH).
  kBulk,
};

// For the calling thread, at its beginning. `name` has at most 15 characters. What is not permitted
// is left as it is: it costs latency, nothing else. What the thread starts, threads and processes,
// begins with no role.
void begin_thread(const char* name, ThreadRole role);

}  // namespace vmhop

// What a pager counts. Written by its threads, read by anyone; each value is right by itself.
#pragma once

#include <atomic>
#include <cstdint>

#include "backend/base/histogram.h"

namespace vmhop {

struct PagerCounters {
  std::atomic<uint64_t> faults{0};                // events read
  std::atomic<uint64_t> faults_resolved_here{0};  // of them, without asking the source
  std::atomic<uint64_t> faults_on_reads{0};       // of them, on a page that was being read already
  std::atomic<uint64_t> faults_in_flight{0};      // reads posted for faults and not arrived
  std::atomic<uint64_t> pages_faulted{0};         // pages with data, read for a fault
  std::atomic<uint64_t> pages_precached{0};       // pages with data, read in the background
  std::atomic<uint64_t> pages_zero{0};            // pages that the source said are zeros
  std::atomic<uint64_t> bytes_read{0};            // page data received
  std::atomic<uint64_t> pages_total{0};           // populated at the source, as far as known

  // A fault from its event to its installation, and the stages between.
  Histogram fault_total;
  Histogram fault_post;     // event read → request out
  Histogram fault_read;     // request out → data there
  Histogram fault_install;  // data there → installed and woken
  Histogram bulk_read;      // one precaching read, request out → last page there
};

}  // namespace vmhop

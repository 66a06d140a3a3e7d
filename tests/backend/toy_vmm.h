// A VM without a CPU: guest memory registered with userfaultfd, threads that use it, and a model of
// what must be in it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "backend/destination_memory.h"
#include "tests/backend/memory_image.h"

namespace vmhop::testing_support {

class ToyVmm {
 public:
  // Guest threads, and the test's own thread as the last of them.
  static constexpr unsigned kWriters = 6;
  static constexpr unsigned kTestThread = kWriters - 1;

  // Empty memory where what `source` has is to arrive; it must outlive this. Aborts where
  // userfaultfd is missing: ask unavailable() first.
  explicit ToyVmm(const std::vector<MemoryImage>& source);
  ~ToyVmm();
  ToyVmm(const ToyVmm&) = delete;
  ToyVmm& operator=(const ToyVmm&) = delete;

  // Why this machine cannot run it; empty when it can.
  static std::string unavailable();

  PageMap& page_map() { return page_map_; }
  // For a pager: all descriptors duplicated.
  std::vector<DestinationMemory::Region> regions() const;
  size_t region_count() const { return memories_.size(); }
  int memfd(size_t region) const { return memories_[region].file.memfd(); }
  std::vector<int> memfds() const;
  int userfault(size_t region) const { return memories_[region].userfault.fd(); }
  uint64_t address(size_t region) const;
  // What is populated at the destination.
  bool is_populated(size_t region, uint64_t page) const;
  PageStates::Counts counts();

  // Guest threads read, write and drop the mapping of random pages: each so many times, or until
  // stopped (0).
  void start_guest(unsigned threads, uint64_t touches, uint64_t seed);
  void join_guest();
  void stop_guest();
  uint64_t touches() const { return touches_; }

  // The calling thread as a guest thread; `writer` is its own.
  void write(unsigned writer, size_t region, uint64_t page, uint64_t value);
  // Checks a page's word of this writer and one that nobody writes.
  void check(unsigned writer, size_t region, uint64_t page);
  // Writes to every page that is mapped, as the test's own thread and so that no fault comes;
  // returns how many.
  uint64_t write_mapped_pages();
  // Drops page-table entries; the memory stays.
  void drop_mapping(size_t region, uint64_t page, uint64_t count);
  uint64_t read_word(size_t region, uint64_t page, uint64_t index) const;

  // Compares every byte with the source overlaid with the guest's writes; returns how many pages
  // are wrong, those that guest threads saw included. Reads all memory through the guest.
  uint64_t wrong_pages();
  std::string first_wrong() const;

 private:
  struct Memory {
    const MemoryImage* image;
    RamRegion file;
    Mapping guest;
    Userfault userfault;
    // What each writer wrote last to each page, 0 for nothing.
    std::array<std::vector<uint64_t>, kWriters> written;
  };

  // Where a writer writes in a page; index % 8 == 7 is nobody's.
  static uint64_t index_of(unsigned writer, uint64_t page) { return page % 64 * 8 + writer; }
  std::atomic_ref<uint64_t> word(size_t region, uint64_t page, uint64_t index) const;
  uint64_t expected(size_t region, uint64_t page, uint64_t index) const;
  void note_wrong(size_t region, uint64_t page, uint64_t index, const char* when);
  void live(unsigned writer, uint64_t touches, uint64_t seed);

  std::vector<Memory> memories_;
  PageMap page_map_;
  std::vector<std::thread> guest_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> touches_{0};
  std::atomic<uint64_t> wrong_{0};
  std::mutex drops_mutex_;  // what is mapped stays mapped
  mutable std::mutex first_wrong_mutex_;
  std::string first_wrong_;
};

}  // namespace vmhop::testing_support

// Compares every page that arrives with the source's checksum of it (`vmhop relocate --verify`).
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "backend/destination_memory.h"
#include "backend/precache_plan.h"

namespace vmhop {

// A page with other bytes than the source's.
struct WrongPage {
  enum class Fate : uint8_t {
    kReadAgain,  // it was not installed, and is read once more
    kWithheld,   // nor was it then: whoever touches it waits, until another connection brings it
    kInstalled,  // the checksum came after the page: the guest may have seen it
  };
  uint32_t region = 0;
  uint64_t offset = 0;  // bytes
  Fate fate = Fate::kReadAgain;
};

// Does nothing, and costs nothing, while the page map has no checksums. Any thread may call
// anything unless it says otherwise.
class PageVerifier {
 public:
  // `on_wrong` comes from whichever thread found it.
  PageVerifier(const DestinationMemory& memory, PrecachePlan& plan,
               std::function<void(const WrongPage&)> on_wrong);

  // (owner) Passes what has arrived to `install`, in runs of pages that may be installed, and to
  // `reject` the pages that may not. Those stay `reading` and the caller's: nothing else may be
  // done with them than to give them back, by give_back() as soon as nobody writes them any more.
  template <typename Install, typename Reject>
  Status sift(const PageArrival& arrival, Install&& install, Reject&& reject);
  // (owner) A page that sift() rejected: absent again, to be read once more; or, the second time,
  // withheld. Then it stays `reading`, and this object owns it.
  Status give_back(const PageRange& page);
  // Withheld pages are absent again: there are new page sources to read them by.
  Status retry_withheld();

  // What the source announced; an error when it makes no sense.
  Status announce(const Checksums& checksums);
  // The link is gone: the source announces from the beginning on the next one.
  void forget_last() { all_announced_ = false; }
  // Asked once all pages are resident: every one was compared, and none was wrong. Pages of which
  // the source never spoke are an error, that it says once.
  bool complete() const;

  struct Counts {
    uint64_t announced = 0;  // on any link, each page once
    uint64_t verified = 0;
    uint64_t wrong = 0;
  };
  Counts counts() const;

 private:
  using PageKey = std::pair<uint32_t, uint64_t>;

  PageChecksums* checksums(uint32_t region) const { return memory_.page_map().checksums(region); }
  bool on() const { return checksums(0) != nullptr; }
  // Whether the page may be installed.
  bool admit(uint32_t region, uint64_t page, Content content);
  uint32_t checksum_of(uint32_t region, uint64_t page, Content content) const;

  const DestinationMemory& memory_;
  PrecachePlan& plan_;
  std::function<void(const WrongPage&)> on_wrong_;
  std::vector<uint32_t> zeros_;  // the checksum of a page of zeros, by region
  std::atomic<uint64_t> announced_{0};
  std::atomic<uint64_t> verified_{0};
  std::atomic<uint64_t> installed_wrong_{0};
  std::atomic<bool> all_announced_{false};
  mutable std::atomic<bool> complained_{false};

  mutable std::mutex mutex_;              // guards the two below; taken for wrong pages only
  std::map<PageKey, unsigned> failures_;  // how often a page was wrong in a row
  std::vector<PageKey> withheld_;
};

template <typename Install, typename Reject>
Status PageVerifier::sift(const PageArrival& arrival, Install&& install, Reject&& reject) {
  if (!on()) return install(arrival.range);
  uint64_t page_size = memory_.page_size(arrival.range.region);
  PageRange run{arrival.range.region, arrival.range.offset, 0};
  uint64_t end = arrival.range.offset + arrival.range.length;
  for (uint64_t offset = run.offset; offset < end; offset += page_size) {
    if (admit(run.region, offset / page_size, arrival.content)) {
      run.length += page_size;
      continue;
    }
    if (run.length > 0) VMHOP_TRY(install(run));
    reject(PageRange{run.region, offset, page_size});
    run = {run.region, offset + page_size, 0};
  }
  return run.length > 0 ? install(run) : ok_status();
}

}  // namespace vmhop

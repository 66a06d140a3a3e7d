#include "rdma/registrar.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

namespace vmhop::rdma {
namespace {

// The VM still runs on these CPUs, and beyond a few threads the kernel's locks are the limit.
constexpr unsigned kMaxThreads = 4;

}  // namespace

Result<std::vector<MemoryRegion>> register_pieces(const ProtectionDomain& domain, std::byte* base,
                                                  std::span<const Extent> pieces, int access) {
  std::vector<MemoryRegion> regions(pieces.size());
  std::atomic<size_t> next{0};
  std::mutex failure_mutex;  // guards failure
  std::optional<Error> failure;
  auto work = [&] {
    for (size_t i = next++; i < pieces.size(); i = next++) {
      auto region = MemoryRegion::create(domain, base + pieces[i].offset, pieces[i].length, access);
      if (region) {
        regions[i] = std::move(*region);
        continue;
      }
      next = pieces.size();
      std::lock_guard lock(failure_mutex);
      if (!failure) failure = region.error();
    }
  };
  size_t count = std::min<size_t>(
      {kMaxThreads, std::max(1U, std::thread::hardware_concurrency()), pieces.size()});
  std::vector<std::thread> threads;
  for (size_t i = 1; i < count; ++i)
    threads.emplace_back(work);
  work();
  for (std::thread& thread : threads)
    thread.join();
  if (failure) return *failure;
  return regions;
}

}  // namespace vmhop::rdma

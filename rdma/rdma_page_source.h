// The page source over one RDMA connection: one-sided reads, the source's CPU does nothing.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/ring.h"
#include "backend/page_source.h"
#include "rdma/connection.h"
#include "rdma/device_watch.h"
#include "rdma/key_table.h"
#include "rdma/verbs.h"

namespace vmhop::rdma {

// A connected queue pair with its completion queue. The members' order is that of dependence.
struct Connection {
  ProtectionDomain domain;
  EventChannel events;  // of this id alone
  CompletionQueue completions;
  CmId id;
  // Reads that may be outstanding: what both ends agreed on.
  uint32_t depth = 1;
};

// What all page sources of one import share, and what must outlive them.
struct ImportedMemory {
  explicit ImportedMemory(size_t regions) : keys(regions) {}
  KeyTable keys;
  std::vector<uint32_t> page_sizes;         // by region
  std::vector<MemoryRegion> registrations;  // of places here
  std::unique_ptr<DeviceWatch> watch;
};

// Reads into registered memory are copied by nobody. A read into a place that is not registered
// goes through a bounce buffer; one that no key covers is asked of `by_name`, another page source.
class RdmaPageSource final : public PageSource {
 public:
  enum class Use {
    kFaults,  // somebody waits for each read: each is signalled
    kBulk,
  };
  static Result<std::unique_ptr<RdmaPageSource>> create(
      Connection connection, std::shared_ptr<const ImportedMemory> memory, Use use,
      std::unique_ptr<PageSource> by_name);
  ~RdmaPageSource() override;

  Status post(std::span<const PageRead> reads) override;
  Result<size_t> poll(std::span<PageArrival> arrivals) override;
  Result<bool> may_wait() override;
  int wait_fd() const override { return epoll_.get(); }
  short wait_events() const override;

 private:
  static constexpr uint32_t kNoSlot = ~0U;
  // One work request.
  struct Piece {
    PageRange range;
    std::byte* target = nullptr;
    uint64_t remote_address = 0;
    uint32_t remote_key = 0;
    uint32_t local_key = 0;
    uint32_t slot = kNoSlot;  // of the bounce buffer
    bool bounce = false;
  };

  RdmaPageSource(Connection connection, std::shared_ptr<const ImportedMemory> memory, Use use,
                 std::unique_ptr<PageSource> by_name)
      : connection_(std::move(connection)),
        memory_(std::move(memory)),
        use_(use),
        by_name_(std::move(by_name)) {}

  Status prepare();
  Status watch(int fd, uint32_t events, int operation) const;
  Status enqueue(const PageRead& read);
  Status ask_by_name();
  Status pump();
  Status submit(size_t count);
  Status reap();
  void retire(uint64_t last);
  Status look_at_events();
  Result<size_t> poll_by_name(std::span<PageArrival> arrivals);
  Status fail(const Error& error);

  Connection connection_;
  std::shared_ptr<const ImportedMemory> memory_;
  Use use_;
  std::unique_ptr<PageSource> by_name_;
  UniqueFd epoll_;
  uint32_t by_name_events_ = 0;
  uint64_t by_name_outstanding_ = 0;  // bytes
  std::vector<PageRead> to_ask_;
  bool slept_ = false;
  std::optional<Error> failure_;  // the first; it stays

  uint64_t piece_bytes_ = 0;  // the most that one work request reads, but for larger pages
  Ring<Piece> waiting_;       // for room in the queue pair, or for a bounce slot
  Ring<Piece> posted_;        // oldest first: they complete in order
  uint64_t posted_count_ = 0;
  uint64_t retired_count_ = 0;
  Ring<PageArrival> ready_;
  std::vector<ibv_send_wr> requests_;
  std::vector<ibv_sge> targets_;

  uint64_t slot_bytes_ = 0;
  std::vector<std::byte> bounce_;
  MemoryRegion bounce_region_;
  std::vector<uint32_t> free_slots_;
};

}  // namespace vmhop::rdma

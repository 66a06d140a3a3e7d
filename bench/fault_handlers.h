// Two ways to serve the faults of a FaultStage: the least that could do it, and vmhop's pager. How
// pages travel is for others to say: tcp_faults.h, rdma_faults.h.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "backend/base/adaptive_poll.h"
#include "backend/pager.h"
#include "bench/fault_stage.h"

namespace vmhop::bench {

class FaultServer {
 public:
  virtual ~FaultServer() = default;
  virtual Status failure() const = 0;
};

enum class Waiting {
  kSleeping,  // in poll()
  kSpinning,  // first for as long as the pager would
};

// A thread that reads a fault, has the page brought and installs it. Nothing is kept, counted or
// claimed: the floor.
class BareServer : public FaultServer {
 public:
  Status failure() const override;

 protected:
  BareServer(const FaultStage& stage, Waiting waiting, EventFd stop)
      : stage_(stage), waiting_(waiting), stop_(std::move(stop)) {}

  // Brings a page to its place: the fault thread calls it.
  virtual Status fetch(uint64_t page) = 0;

  // Runs a part of the server in a thread, the role of which is the pager's.
  void start(const std::function<Status()>& serve);
  Status serve_faults();
  // A derived server that goes ends its threads first.
  void end();

  // Whether it became ready meanwhile; not a moment for who does not spin.
  bool spin(AdaptiveSpin& spin, const std::function<bool()>& ready);
  // Until `fd` says something; an error when the server is to end.
  Status sleep(int fd);

  const FaultStage& stage_;

 private:
  Waiting waiting_;
  EventFd stop_;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;  // guards failure_
  Status failure_;
  std::vector<std::thread> threads_;
};

// Where a pager's pages come from.
class PageLanes {
 public:
  virtual ~PageLanes() = default;
  // One for each precacher, or the one for faults.
  virtual Result<std::unique_ptr<PageSource>> fault_source() = 0;
  virtual Result<std::unique_ptr<PageSource>> bulk_source(unsigned precacher) = 0;
};

inline constexpr unsigned kPrecachers = 2;

// The pager with one fault lane and, if asked for, the lanes that precache all the while.
class PagerServer final : public FaultServer {
 public:
  enum class Precaching { kNone, kAllTheWhile };
  static Result<std::unique_ptr<PagerServer>> start(const FaultStage& stage,
                                                    std::unique_ptr<PageLanes> lanes,
                                                    Precaching precaching);
  Status failure() const override;
  const PagerCounters& counters() const { return pager_->counters(); }
  // Whether the pager has yet to fetch it.
  bool is_absent(uint64_t page) const {
    return page_map_->region(0).get(page) == PageState::kAbsent;
  }

 private:
  explicit PagerServer(std::unique_ptr<PageLanes> lanes) : lanes_(std::move(lanes)) {}

  std::unique_ptr<PageLanes> lanes_;
  std::unique_ptr<PageMap> page_map_;
  mutable std::mutex mutex_;  // guards failure_
  Status failure_;
  std::unique_ptr<Pager> pager_;
};

// A way for pages to travel.
struct FaultTransport {
  Result<std::unique_ptr<FaultServer>> (*floor)(const FaultStage& stage, Waiting waiting);
  Result<std::unique_ptr<PageLanes>> (*lanes)(const FaultStage& stage);
};

}  // namespace vmhop::bench

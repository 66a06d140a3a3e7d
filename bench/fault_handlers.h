// Two ways to serve the faults of a FaultStage: the least that could do it, and vmhop's pager.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "backend/pager.h"
#include "backend/tcp/page_server.h"
#include "bench/fault_stage.h"

namespace vmhop::bench {

class FaultServer {
 public:
  virtual ~FaultServer() = default;
  virtual Status failure() const = 0;
};

// A thread that reads a fault, asks another thread for the page over TCP, and installs it. Nothing
// is kept, counted or claimed: the floor.
class BareServer final : public FaultServer {
 public:
  enum class Waiting {
    kSleeping,  // in poll(), at both ends
    kSpinning,  // first for as long as the pager would, at both ends
  };
  static Result<std::unique_ptr<BareServer>> start(const FaultStage& stage, Waiting waiting);
  ~BareServer() override;
  Status failure() const override;

 private:
  BareServer(const FaultStage& stage, Waiting waiting, TcpPair pair, EventFd stop)
      : stage_(stage), waiting_(waiting), pair_(std::move(pair)), stop_(std::move(stop)) {}
  Status serve_faults();
  Status serve_pages();
  Status await(int fd, AdaptiveSpin& spin, const std::function<bool()>& ready);
  Status receive_all(int fd, void* into, size_t size, AdaptiveSpin& spin);

  const FaultStage& stage_;
  Waiting waiting_;
  TcpPair pair_;
  EventFd stop_;
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;  // guards failure_
  Status failure_;
  std::thread pages_;
  std::thread faults_;
};

// The pager with one fault lane and, if asked for, two bulk lanes that precache all the while.
class PagerServer final : public FaultServer {
 public:
  static Result<std::unique_ptr<PagerServer>> start(const FaultStage& stage, bool precaching);
  Status failure() const override;
  const PagerCounters& counters() const { return pager_->counters(); }
  // Whether the pager has yet to fetch it.
  bool is_absent(uint64_t page) const {
    return page_map_->region(0).get(page) == PageState::kAbsent;
  }

 private:
  explicit PagerServer(const FaultStage& stage) : stage_(stage), store_(stage.source()) {}
  Status add_lane(int precacher);

  const FaultStage& stage_;
  PageStore store_;
  PageServerCounters served_;
  std::unique_ptr<PageMap> page_map_;
  std::vector<std::unique_ptr<PageServer>> lanes_;
  mutable std::mutex mutex_;  // guards failure_
  Status failure_;
  std::unique_ptr<Pager> pager_;
};

}  // namespace vmhop::bench

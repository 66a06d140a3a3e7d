// How the pages of a VM come to the destination: the layouts and keys that the source sends, the
// lanes or RDMA connections they are read by, and when all of them are there.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/base/event_loop.h"
#include "backend/base/worker.h"
#include "backend/one_sided.h"
#include "backend/pager.h"
#include "backend/session/acceptor.h"

namespace vmhop {

// Belongs to the loop's thread; its callbacks come there.
class PageDelivery {
 public:
  struct Options {
    std::vector<RegionInfo> regions;
    unsigned bulk_lanes = 2;
    OneSidedTransport* one_sided = nullptr;  // null: lanes only
  };
  struct Callbacks {
    std::function<void(const Error&)> on_source_lost;
    std::function<void()> on_idle;  // a good moment to ask drained()
    std::function<void(const Error&)> on_broken;
    std::function<void(const WrongPage&)> on_wrong_page;
    // ready() may have become true.
    std::function<void()> on_ready;
    std::function<void(const RdmaAnswer&)> on_answer;
  };

  static Result<std::unique_ptr<PageDelivery>> start(EventLoop& loop, Options options,
                                                     std::vector<DestinationMemory::Region> regions,
                                                     PageMap& page_map, Callbacks callbacks);
  ~PageDelivery();

  // What the source says. Errors mean that it cannot be trusted: end the link.
  Status on_layout(const Layout& layout);
  Status on_keys(const MemoryKeys& keys);
  Status on_checksums(const Checksums& checksums);
  void on_offer(const RdmaOffer& offer);
  void on_lane(AcceptedLane lane);
  // The link is gone: nothing is read until the next one's lanes are there.
  void on_link_down();

  // Everything that takes long and can be done while the VM still runs at the source is done.
  bool ready() const { return jobs_under_way_ == 0; }
  // Nothing is read before the read point: the VM still runs at the source, and writes.
  void allow_faults();
  // Precaching waits until the VM runs here: on a host with few CPUs it would take them from the
  // two QEMUs that save and load device state, and lengthen the blackout; what loading needs comes
  // by faults.
  void allow_precaching();
  // As Pager's.
  void limit_precaching(uint64_t bytes_per_second) { pager_->limit_precaching(bytes_per_second); }
  // For good.
  void stop();

  bool drained() const { return pager_->drained(); }
  Status finish();
  Progress progress() const { return pager_->progress(); }
  std::vector<Pager::RegionProgress> region_progress() const { return pager_->region_progress(); }
  const PagerCounters& counters() const { return pager_->counters(); }
  uint64_t pages_announced() const { return pager_->pages_announced(); }
  // Of the latest link: "tcp" or "rdma", and for people by which way.
  const std::string& transport() const { return transport_; }
  const std::string& route() const { return route_; }

 private:
  PageDelivery(EventLoop& loop, Options options, Callbacks callbacks)
      : loop_(loop),
        options_(std::move(options)),
        callbacks_(std::move(callbacks)),
        extents_(options_.regions.size()),
        extents_done_(options_.regions.size()),
        extents_final_(options_.regions.size()) {}

  template <typename Method>
  auto posted(Method method);
  // Runs `job` in the worker, then `done` here if the link is still the same.
  void work(std::function<void()> job, std::function<void()> done);
  void attach_lanes();
  std::unique_ptr<PageSource> make_source(AcceptedLane& lane);
  void forget_partial_layout();
  void let_import_go();

  EventLoop& loop_;
  Options options_;
  Callbacks callbacks_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<Pager> pager_;
  bool faults_allowed_ = false;
  bool precaching_allowed_ = false;
  bool stopped_ = false;

  std::vector<AcceptedLane> lanes_;  // arrived and not yet attached
  std::vector<ExtentList> extents_;  // of the layout under way
  std::vector<bool> extents_done_;
  std::vector<bool> extents_final_;
  bool final_layout_ = false;

  uint64_t link_ = 0;  // counts them: a job of an earlier one has nothing to say
  size_t jobs_under_way_ = 0;
  std::shared_ptr<MemoryImport> import_;
  std::string transport_ = "tcp";
  std::string route_;
  std::unique_ptr<Worker> worker_;  // the last member: its jobs use the others
};

}  // namespace vmhop

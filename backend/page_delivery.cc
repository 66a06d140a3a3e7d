#include "backend/page_delivery.h"

#include <unistd.h>

#include <algorithm>

#include "backend/tcp/tcp_page_source.h"

namespace vmhop {
namespace {

constexpr std::chrono::milliseconds kConnectTimeout{5000};

// A file of huge pages cannot be written to. And who writes to a file waits for others who do: bulk
// lanes can, a fault cannot.
TcpPageSource::Region tcp_region(const RamRegion& ram, LaneKind lane) {
  uint32_t page_size = ram.info().page_size;
  bool written = lane == LaneKind::kBulk && page_size == static_cast<uint32_t>(::getpagesize());
  return {page_size, written ? ram.memfd() : -1};
}

}  // namespace

// Calls `method` in the loop's thread, unless this is gone by then.
template <typename Method>
auto PageDelivery::posted(Method method) {
  return [this, &loop = loop_, alive = alive_, method](const auto&... argument) {
    loop.post([this, alive, method, argument...] {
      if (*alive) method(*this, argument...);
    });
  };
}

Result<std::unique_ptr<PageDelivery>> PageDelivery::start(
    EventLoop& loop, Options options, std::vector<DestinationMemory::Region> regions,
    PageMap& page_map, Callbacks callbacks) {
  std::unique_ptr<PageDelivery> self(
      new PageDelivery(loop, std::move(options), std::move(callbacks)));
  Pager::Callbacks calls;
  calls.on_source_lost = self->posted([](PageDelivery& delivery, const Error& error) {
    delivery.callbacks_.on_source_lost(error);
  });
  calls.on_idle = self->posted([](PageDelivery& delivery) { delivery.callbacks_.on_idle(); });
  calls.on_broken = self->posted(
      [](PageDelivery& delivery, const Error& error) { delivery.callbacks_.on_broken(error); });
  calls.on_wrong_page = self->posted([](PageDelivery& delivery, const WrongPage& page) {
    delivery.callbacks_.on_wrong_page(page);
  });
  VMHOP_ASSIGN(self->pager_, Pager::start(std::move(regions), page_map, self->options_.bulk_lanes,
                                          std::move(calls)));
  self->worker_ = std::make_unique<Worker>();
  return self;
}

PageDelivery::~PageDelivery() {
  *alive_ = false;
  worker_.reset();
}

void PageDelivery::work(std::function<void()> job, std::function<void()> done) {
  ++jobs_under_way_;
  worker_->post([this, &loop = loop_, alive = alive_, link = link_, job = std::move(job),
                 done = std::move(done)] {
    job();
    loop.post([this, alive, link, done] {
      if (!*alive || link != link_) return;
      --jobs_under_way_;
      done();
      callbacks_.on_ready();
    });
  });
}

Status PageDelivery::on_layout(const Layout& layout) {
  if (final_layout_) return ok_status();  // repeated after a lost link
  if (layout.region >= extents_.size()) {
    return Error("the source's layout names a region that is not there");
  }
  ExtentList& extents = extents_[layout.region];
  if (extents_done_[layout.region]) {
    extents.clear();
    extents_done_[layout.region] = false;
  }
  extents.insert(extents.end(), layout.extents.begin(), layout.extents.end());
  if (!layout.last) return ok_status();
  const RegionInfo& region = options_.regions[layout.region];
  if (!is_well_formed(extents, region.size, region.page_size)) {
    return errorf("the source's layout of region {} makes no sense", region.id);
  }
  extents_done_[layout.region] = true;
  if (layout.kind == LayoutKind::kPreliminary) {
    pager_->set_preliminary_layout(layout.region, extents);
    return ok_status();
  }
  // All of them, not just the last: what a final layout lacks becomes zeros for good.
  extents_final_[layout.region] = true;
  if (std::find(extents_final_.begin(), extents_final_.end(), false) == extents_final_.end()) {
    final_layout_ = true;
    pager_->set_final_layout(std::move(extents_));
  }
  return ok_status();
}

// The next session sends its layouts from the beginning.
void PageDelivery::forget_partial_layout() {
  if (final_layout_) return;
  for (ExtentList& extents : extents_)
    extents.clear();
  extents_done_.assign(extents_done_.size(), false);
  extents_final_.assign(extents_final_.size(), false);
}

void PageDelivery::on_offer(const RdmaOffer& offer) {
  if (options_.one_sided == nullptr) {
    return callbacks_.on_answer({false, "the destination was not told to use RDMA"});
  }
  using Connected = Result<std::unique_ptr<MemoryImport>>;
  auto result = std::make_shared<Connected>(Error("not tried"));
  work(
      [this, offer, result] {
        *result = options_.one_sided->connect(offer, pager_->memory().regions(), kConnectTimeout);
      },
      [this, result] {
        if (*result) {
          import_ = std::move(**result);
          transport_ = "rdma";
          route_ = import_->route();
          callbacks_.on_answer({true, import_->route()});
        } else {
          callbacks_.on_answer({false, result->error().message()});
        }
      });
}

// Registering takes time: reads that need a key meanwhile ask for their pages by name.
Status PageDelivery::on_keys(const MemoryKeys& keys) {
  if (!import_) return Error("the source sent memory keys without an RDMA connection");
  auto status = std::make_shared<Status>();
  work([import = import_, keys, status] { *status = import->add_keys(keys); },
       [this, status] {
         if (!*status) callbacks_.on_source_lost(status->error());
       });
  return ok_status();
}

Status PageDelivery::on_checksums(const Checksums& checksums) {
  VMHOP_TRY(pager_->announce(checksums));
  if (checksums.last) callbacks_.on_idle();
  return ok_status();
}

void PageDelivery::on_lane(AcceptedLane lane) {
  lanes_.push_back(std::move(lane));
  attach_lanes();
}

void PageDelivery::allow_faults() {
  faults_allowed_ = true;
  attach_lanes();
}

void PageDelivery::allow_precaching() {
  precaching_allowed_ = true;
  attach_lanes();
}

void PageDelivery::attach_lanes() {
  if (!faults_allowed_ || stopped_) return;
  for (AcceptedLane& lane : lanes_) {
    bool is_fault_lane = lane.id.kind == LaneKind::kFault;
    if (!lane.stream || (!is_fault_lane && !precaching_allowed_)) continue;
    auto source = make_source(lane);
    if (is_fault_lane) {
      pager_->attach_fault_source(std::move(source));
    } else {
      pager_->attach_bulk_source(lane.id.index, std::move(source));
    }
  }
}

// With RDMA a lane is only asked for what no key covers.
std::unique_ptr<PageSource> PageDelivery::make_source(AcceptedLane& lane) {
  std::vector<TcpPageSource::Region> regions;
  for (const DestinationMemory::Region& region : pager_->memory().regions())
    regions.push_back(tcp_region(region.ram, lane.id.kind));
  std::unique_ptr<PageSource> by_name =
      std::make_unique<TcpPageSource>(std::move(lane.stream), std::move(regions));
  if (!import_) return by_name;
  size_t connection = lane.id.kind == LaneKind::kFault ? 0 : size_t{1} + lane.id.index;
  auto source = import_->take_source(connection, std::move(by_name));
  if (source) return std::move(*source);
  // Not at once: the lanes are being gone through.
  posted([](PageDelivery& delivery, const Error& error) {
    delivery.callbacks_.on_source_lost(error);
  })(source.error());
  return nullptr;
}

void PageDelivery::on_link_down() {
  ++link_;
  jobs_under_way_ = 0;
  lanes_.clear();
  forget_partial_layout();
  pager_->detach_sources();
  pager_->forget_announcements();
  let_import_go();
  transport_ = "tcp";
  route_.clear();
}

// Its page sources keep what they need until their threads let them go. Unpinning takes time.
void PageDelivery::let_import_go() {
  if (import_) worker_->post([import = std::move(import_)] {});
  import_.reset();
}

void PageDelivery::stop() {
  stopped_ = true;
  pager_->detach_sources();
}

Status PageDelivery::finish() {
  VMHOP_TRY(pager_->finish());
  stopped_ = true;
  let_import_go();
  return ok_status();
}

}  // namespace vmhop

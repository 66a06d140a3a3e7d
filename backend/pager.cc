#include "backend/pager.h"

#include <algorithm>

namespace vmhop {

Result<std::unique_ptr<Pager>> Pager::start(std::vector<DestinationMemory::Region> regions,
                                            PageMap& page_map, unsigned precachers,
                                            Callbacks callbacks) {
  std::unique_ptr<Pager> pager(new Pager(std::move(regions), page_map, std::move(callbacks)));
  VMHOP_ASSIGN(pager->taken_over_, pager->memory_.take_over());
  pager->preliminary_.resize(pager->memory_.regions().size());
  const Callbacks& call = pager->callbacks_;
  for (unsigned i = 0; i < precachers; ++i) {
    VMHOP_ASSIGN(
        auto precacher,
        Precacher::start(pager->memory_, pager->plan_, pager->pace_, pager->verifier_,
                         pager->counters_, {call.on_source_lost, call.on_broken, call.on_idle}));
    pager->precachers_.push_back(std::move(precacher));
  }
  VMHOP_ASSIGN(pager->faults_,
               FaultHandler::start(pager->memory_, pager->plan_, pager->verifier_, pager->counters_,
                                   {call.on_source_lost, call.on_idle, call.on_broken}));
  // What one thread gives back, the others take up, those that sleep included.
  pager->plan_.on_taken_back([raw = pager.get()] {
    for (auto& precacher : raw->precachers_)
      precacher->notify();
  });
  return pager;
}

Pager::~Pager() {
  stop_threads();
}

void Pager::stop_threads() {
  plan_.on_taken_back(nullptr);
  if (layout_thread_.joinable()) layout_thread_.join();
  precachers_.clear();
  faults_.reset();
}

void Pager::attach_fault_source(std::unique_ptr<PageSource> source) {
  if (!faults_) return;
  // Before it reads anything: what it finds wrong is not what others had.
  if (Status retried = verifier_.retry_withheld(); !retried) callbacks_.on_broken(retried.error());
  faults_->attach(std::move(source));
}

void Pager::attach_bulk_source(unsigned precacher, std::unique_ptr<PageSource> source) {
  if (precacher < precachers_.size()) precachers_[precacher]->attach(std::move(source));
}

void Pager::detach_sources() {
  if (faults_) faults_->attach(nullptr);
  for (auto& precacher : precachers_)
    precacher->attach(nullptr);
}

void Pager::set_preliminary_layout(uint32_t region, ExtentList extents) {
  preliminary_[region] = extents;
  plan_.set_extents(region, std::move(extents));
  count_total();
  for (auto& precacher : precachers_)
    precacher->notify();
}

void Pager::count_total() {
  uint64_t pages = 0;
  for (uint32_t region = 0; region < preliminary_.size(); ++region) {
    pages += total_length(preliminary_[region]) / memory_.page_size(region);
  }
  counters_.pages_total.store(pages, std::memory_order_relaxed);
}

void Pager::set_final_layout(std::vector<ExtentList> extents) {
  preliminary_ = extents;
  count_total();
  if (layout_thread_.joinable()) layout_thread_.join();
  layout_thread_ = std::thread([this, extents = std::move(extents)]() mutable {
    for (uint32_t region = 0; region < extents.size(); ++region) {
      PageStates& states = memory_.states(region);
      uint64_t page_size = memory_.page_size(region);
      uint64_t page = 0;
      for (const Extent& extent : extents[region]) {
        states.mark_holes(page, extent.offset / page_size - page);
        page = extent.end() / page_size;
      }
      states.mark_holes(page, states.pages() - page);
      plan_.set_extents(region, std::move(extents[region]));
    }
    plan_.set_complete();
    for (auto& precacher : precachers_)
      precacher->notify();
    faults_->notify();
    callbacks_.on_idle();
  });
}

bool Pager::drained() const {
  if (!plan_.complete()) return false;
  for (; undone_.region < memory_.regions().size(); ++undone_.region, undone_.page = 0) {
    const PageStates& states = memory_.states(undone_.region);
    for (; undone_.page < states.pages(); ++undone_.page) {
      PageState state = states.get(undone_.page);
      if (state != PageState::kResident && state != PageState::kHole) return false;
    }
  }
  return verifier_.complete();
}

// The fault handler serves until the registration is gone: a guest may touch a hole any moment. One
// that it was about to answer then is answered by the kernel instead.
Status Pager::finish() {
  if (faults_) faults_->expect_end();
  VMHOP_TRY(memory_.unregister());
  stop_threads();
  return ok_status();
}

// Counted, not looked up: a walk over all pages every tenth of a second would show. The counts are
// a little off: a page of zeros may be one that the layout did not know, and what a former pager
// found to be zeros is not among what it left resident. So they never say "all" by themselves.
uint64_t Pager::pages_here(const Progress& progress) const {
  if (seen_drained()) return progress.pages_total;
  if (progress.pages_total == 0) return 0;
  uint64_t here =
      progress.pages_faulted + progress.pages_precached + progress.pages_hole + taken_over_;
  return std::min(here, progress.pages_total - 1);
}

std::vector<Pager::RegionProgress> Pager::region_progress() const {
  std::vector<RegionProgress> all;
  for (uint32_t region = 0; region < memory_.regions().size(); ++region) {
    const DestinationMemory::Counters& counters = memory_.counters(region);
    all.push_back(
        {counters.resident_pages.load(std::memory_order_relaxed) * memory_.page_size(region),
         counters.faults.load(std::memory_order_relaxed)});
  }
  return all;
}

Progress Pager::progress() const {
  auto load = [](const std::atomic<uint64_t>& value) {
    return value.load(std::memory_order_relaxed);
  };
  Progress progress;
  progress.pages_total = load(counters_.pages_total);
  progress.pages_faulted = load(counters_.pages_faulted);
  progress.pages_precached = load(counters_.pages_precached);
  progress.pages_hole = load(counters_.pages_zero);
  progress.pages_resident = pages_here(progress);
  progress.bytes_read = load(counters_.bytes_read);
  progress.faults = load(counters_.faults);
  progress.fault_p50_ns = counters_.fault_total.quantile_ns(0.5);
  progress.fault_p99_ns = counters_.fault_total.quantile_ns(0.99);
  progress.fault_max_ns = counters_.fault_total.max_ns();
  auto compared = verifier_.counts();
  progress.pages_verified = compared.verified;
  progress.pages_wrong = compared.wrong;
  return progress;
}

}  // namespace vmhop

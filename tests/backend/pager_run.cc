#include "tests/backend/pager_run.h"

namespace vmhop::testing_support {

PagerRun::PagerRun(ToyVmm& vmm, unsigned precachers, Connect connect)
    : precachers_(precachers), connect_(std::move(connect)) {
  Pager::Callbacks callbacks;
  callbacks.on_source_lost = [this](const Error& error) {
    note([&] {
      ++losses_;
      lost_.push_back(error.message());
    });
  };
  callbacks.on_wrong_page = [this](const WrongPage& page) {
    note([&] { fates_.push_back(page.fate); });
  };
  callbacks.on_idle = [this] { note([this] { ++idle_reports_; }); };
  callbacks.on_broken = [this](const Error& error) { note([&] { broken_ = error.message(); }); };
  pager_ = must(Pager::start(vmm.regions(), vmm.page_map(), precachers, std::move(callbacks)));
}

void PagerRun::note(const std::function<void()>& change) {
  {
    std::lock_guard lock(mutex_);
    change();
  }
  changed_.notify_all();
}

void PagerRun::give_final_layout(std::span<const RamRegion> source) {
  std::vector<ExtentList> layout;
  for (const RamRegion& region : source)
    layout.push_back(must(region.populated_extents()));
  pager_->set_final_layout(std::move(layout));
}

void PagerRun::attach_all() {
  if (auto source = connect_(kFaultLane)) pager_->attach_fault_source(std::move(source));
  for (unsigned i = 0; i < precachers_; ++i) {
    if (auto source = connect_(static_cast<int>(i))) {
      pager_->attach_bulk_source(i, std::move(source));
    }
  }
}

bool PagerRun::drain() {
  for (;;) {
    bool lost = false;
    {
      std::lock_guard lock(mutex_);
      idle_seen_ = idle_reports_;
      lost = !lost_.empty();
      lost_.clear();
      if (!broken_.empty()) return false;
    }
    if (lost) attach_all();
    if (pager_->drained()) return true;
    if (!wait(
            [this] { return idle_reports_ != idle_seen_ || !lost_.empty() || !broken_.empty(); })) {
      return false;
    }
  }
}

std::string PagerRun::wait_for_loss() {
  if (!wait([this] { return !lost_.empty(); })) return "";
  std::lock_guard lock(mutex_);
  std::string message = lost_.front();
  lost_.pop_front();
  return message;
}

void PagerRun::wait_for_idle() {
  (void)wait([this] { return idle_reports_ != idle_seen_; });
  std::lock_guard lock(mutex_);
  idle_seen_ = idle_reports_;
}

size_t PagerRun::losses() {
  std::lock_guard lock(mutex_);
  return losses_;
}

std::vector<WrongPage::Fate> PagerRun::fates() {
  std::lock_guard lock(mutex_);
  return fates_;
}

std::string PagerRun::broken() {
  std::lock_guard lock(mutex_);
  return broken_;
}

}  // namespace vmhop::testing_support

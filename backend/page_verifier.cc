#include "backend/page_verifier.h"

#include <spdlog/spdlog.h>

#include "backend/base/crc32c.h"

namespace vmhop {
namespace {

// A page that is wrong as often as this, one time after the other, is withheld.
constexpr unsigned kAttempts = 2;

}  // namespace

PageVerifier::PageVerifier(const DestinationMemory& memory, PrecachePlan& plan,
                           std::function<void(const WrongPage&)> on_wrong)
    : memory_(memory), plan_(plan), on_wrong_(std::move(on_wrong)) {
  for (uint32_t region = 0; region < memory_.regions().size(); ++region) {
    const std::vector<std::byte> zeros(memory_.page_size(region));
    zeros_.push_back(crc32c(zeros));
    if (!on()) continue;
    // What a former pager of this page map has compared.
    auto counts = checksums(region)->count(zeros_.back());
    announced_ += counts.announced;
    verified_ += counts.verified;
    installed_wrong_ += counts.wrong;
  }
}

uint32_t PageVerifier::checksum_of(uint32_t region, uint64_t page, Content content) const {
  if (content == Content::kZero) return zeros_[region];
  PageRange range = memory_.range_of(region, page, 1);
  return crc32c({memory_.target_of(range), range.length});
}

bool PageVerifier::admit(uint32_t region, uint64_t page, Content content) {
  auto verdict = checksums(region)->arrived(page, checksum_of(region, page, content));
  if (verdict == PageChecksums::Verdict::kRight) {
    verified_.fetch_add(1, std::memory_order_relaxed);
  }
  return verdict != PageChecksums::Verdict::kWrong;
}

Status PageVerifier::give_back(const PageRange& range) {
  PageKey page{range.region, range.offset / range.length};
  WrongPage wrong{range.region, range.offset, WrongPage::Fate::kReadAgain};
  {
    std::lock_guard lock(mutex_);
    if (++failures_[page] >= kAttempts) {
      wrong.fate = WrongPage::Fate::kWithheld;
      withheld_.push_back(page);
    }
  }
  on_wrong_(wrong);
  if (wrong.fate == WrongPage::Fate::kWithheld) return ok_status();
  VMHOP_TRY(memory_.give_back(range));
  plan_.take_back(range);
  return ok_status();
}

Status PageVerifier::retry_withheld() {
  std::vector<PageKey> pages;
  {
    std::lock_guard lock(mutex_);
    pages.swap(withheld_);
    failures_.clear();
  }
  for (const auto& [region, page] : pages) {
    PageRange range = memory_.range_of(region, page, 1);
    VMHOP_TRY(memory_.give_back(range));
    plan_.take_back(range);
  }
  return ok_status();
}

Status PageVerifier::announce(const Checksums& announced) {
  if (!on()) return Error("the source announces checksums and did not say that it would");
  if (announced.region >= memory_.regions().size()) {
    return Error("the source's checksums are of a region that is not there");
  }
  uint64_t page_size = memory_.page_size(announced.region);
  uint64_t pages = memory_.size(announced.region) / page_size;
  uint64_t first = announced.offset / page_size;
  if (announced.offset % page_size != 0 || first > pages ||
      announced.pages.size() > pages - first) {
    return errorf("the source's checksums from {:#x} on do not fit region {}", announced.offset,
                  memory_.regions()[announced.region].ram.info().id);
  }
  for (size_t i = 0; i < announced.pages.size(); ++i) {
    switch (checksums(announced.region)->announced(first + i, announced.pages[i])) {
      case PageChecksums::Announcement::kRepeated:
        break;
      case PageChecksums::Announcement::kFirst:
        announced_.fetch_add(1, std::memory_order_relaxed);
        break;
      case PageChecksums::Announcement::kVerified:
        announced_.fetch_add(1, std::memory_order_relaxed);
        verified_.fetch_add(1, std::memory_order_relaxed);
        break;
      case PageChecksums::Announcement::kWrong:
        announced_.fetch_add(1, std::memory_order_relaxed);
        installed_wrong_.fetch_add(1, std::memory_order_relaxed);
        on_wrong_({announced.region, (first + i) * page_size, WrongPage::Fate::kInstalled});
        break;
    }
  }
  if (announced.last) all_announced_ = true;
  return ok_status();
}

bool PageVerifier::complete() const {
  if (!on()) return true;
  if (!all_announced_ || counts().wrong > 0) return false;
  uint64_t unannounced = 0;
  for (uint32_t region = 0; region < memory_.regions().size(); ++region)
    unannounced += checksums(region)->count(zeros_[region]).unannounced;
  if (unannounced == 0) return true;
  if (!complained_.exchange(true)) {
    spdlog::error("{} pages are here that the source does not account for", unannounced);
  }
  return false;
}

PageVerifier::Counts PageVerifier::counts() const {
  Counts counts{announced_.load(std::memory_order_relaxed),
                verified_.load(std::memory_order_relaxed),
                installed_wrong_.load(std::memory_order_relaxed)};
  std::lock_guard lock(mutex_);
  counts.wrong += withheld_.size();
  return counts;
}

}  // namespace vmhop

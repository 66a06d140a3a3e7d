// A pager that compares what arrives with the source's checksums.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "backend/base/crc32c.h"
#include "backend/checksum_announcer.h"
#include "tests/backend/fault_injection.h"
#include "tests/backend/pager_run.h"
#include "tests/backend/source_host.h"

namespace vmhop {
namespace {

using namespace testing_support;
using testing::HasSubstr;
using Fate = WrongPage::Fate;

// As a source announces them, all at once: its own code, in a loop of its own.
std::vector<Checksums> announcements(std::span<const RamRegion> regions) {
  auto layout = std::make_shared<SourceLayout>();
  for (const RamRegion& region : regions)
    layout->extents.push_back(must(region.populated_extents()));
  auto loop = must(EventLoop::create());
  std::vector<Checksums> all;
  ChecksumAnnouncer announcer(*loop, regions, [&](const Checksums& batch) {
    all.push_back(batch);
    if (batch.last) loop->stop();
  });
  announcer.start(layout);
  must(loop->run());
  return all;
}

class PagerThatVerifies : public testing::Test {
 protected:
  static constexpr uint64_t kPages = 512;
  static constexpr uint64_t kWrongPage = 5;  // of region 0: one with data

  void SetUp() override {
    if (auto why = ToyVmm::unavailable(); !why.empty()) GTEST_SKIP() << why;
    images_.emplace_back(kPages, 1, mixed);
    images_.emplace_back(64, 2, all_data);
    host_ = std::make_unique<SourceHost>(images_);
    vmm_ = std::make_unique<ToyVmm>(images_);
    host_->write_to(vmm_->memfds());
    must(vmm_->page_map().add_checksums());
    announcements_ = announcements(host_->regions());
  }

  // Everything is read by lanes that bring a page wrong so many times.
  std::unique_ptr<PagerRun> start(size_t times_wrong) {
    damage_ = std::make_shared<Damage>(PageRange{0, kWrongPage * kPage, kPage}, times_wrong);
    return std::make_unique<PagerRun>(*vmm_, 1, [this](int) {
      return std::make_unique<FaultInjectingSource>(host_->connect(),
                                                    FaultScript{.damage = damage_});
    });
  }
  void announce(PagerRun& run) {
    for (const Checksums& batch : announcements_)
      must(run.pager().announce(batch));
  }
  void expect_right_memory() { EXPECT_EQ(vmm_->wrong_pages(), 0U) << vmm_->first_wrong(); }
  bool waits_for_wrong_page(PagerRun& run) {
    return eventually([&] {
      return run.fates() == std::vector{Fate::kReadAgain, Fate::kWithheld};
    });
  }
  // Whether or not they are right.
  bool brings_all_pages() {
    return eventually([this] {
      auto counts = vmm_->counts();
      return counts.absent + counts.reading + counts.filled == 0;
    });
  }
  uint64_t populated_pages() const {
    uint64_t count = 0;
    for (const MemoryImage& image : images_) {
      for (uint64_t page = 0; page < image.pages(); ++page)
        count += image.kind(page) == PageKind::kHole ? 0 : 1;
    }
    return count;
  }

  std::vector<MemoryImage> images_;
  std::unique_ptr<SourceHost> host_;
  std::unique_ptr<ToyVmm> vmm_;
  std::vector<Checksums> announcements_;
  std::shared_ptr<Damage> damage_;
};

TEST_F(PagerThatVerifies, ComparesEveryPageThatIsAnnouncedBeforeItArrives) {
  auto run = start(0);
  announce(*run);
  run->attach_all();
  run->give_final_layout(host_->regions());
  ASSERT_TRUE(run->drain()) << run->broken();
  EXPECT_EQ(run->pager().progress().pages_verified, populated_pages());
  EXPECT_EQ(run->pager().progress().pages_wrong, 0U);
  expect_right_memory();
}

TEST_F(PagerThatVerifies, IsNotDrainedBeforeTheSourceHasSpokenOfEveryPage) {
  auto run = start(0);
  run->attach_all();
  run->give_final_layout(host_->regions());
  ASSERT_TRUE(brings_all_pages());
  EXPECT_FALSE(run->pager().drained());
  announce(*run);
  EXPECT_TRUE(run->pager().drained());
  EXPECT_EQ(run->pager().progress().pages_verified, populated_pages());
  expect_right_memory();
}

TEST_F(PagerThatVerifies, ReadsAWrongPageAgain) {
  auto run = start(1);
  announce(*run);
  run->attach_all();
  run->give_final_layout(host_->regions());
  ASSERT_TRUE(run->drain()) << run->broken();
  EXPECT_EQ(run->fates(), std::vector{Fate::kReadAgain});
  expect_right_memory();
}

// The guest waits; it sees the wrong bytes at no time.
TEST_F(PagerThatVerifies, WithholdsAPageThatStaysWrongUntilAnotherConnectionBringsIt) {
  auto run = start(2);
  announce(*run);
  std::thread guest([this] { vmm_->check(ToyVmm::kTestThread, 0, kWrongPage); });
  run->attach_all();
  run->give_final_layout(host_->regions());
  EXPECT_TRUE(waits_for_wrong_page(*run));
  EXPECT_TRUE(eventually([&] {
    auto counts = vmm_->counts();
    return counts.absent == 0 && counts.reading == 1;
  }));
  EXPECT_FALSE(run->pager().drained());
  EXPECT_EQ(run->pager().progress().pages_wrong, 1U);
  run->attach_all();
  EXPECT_TRUE(run->drain()) << run->broken();
  EXPECT_EQ(run->pager().progress().pages_wrong, 0U);
  guest.join();
  expect_right_memory();
}

// For a fault, not by precaching.
TEST_F(PagerThatVerifies, ReadsAWrongPageAgainForTheGuestThatWaitsForIt) {
  auto run = start(1);
  announce(*run);
  std::thread guest([this] { vmm_->check(ToyVmm::kTestThread, 0, kWrongPage); });
  run->pager().attach_fault_source(
      std::make_unique<FaultInjectingSource>(host_->connect(), FaultScript{.damage = damage_}));
  guest.join();
  EXPECT_EQ(run->fates(), std::vector{Fate::kReadAgain});
  run->attach_all();
  run->give_final_layout(host_->regions());
  ASSERT_TRUE(run->drain()) << run->broken();
  expect_right_memory();
}

TEST_F(PagerThatVerifies, SaysThatItInstalledAPageWhoseChecksumCameTooLate) {
  auto run = start(1);
  run->attach_all();
  run->give_final_layout(host_->regions());
  ASSERT_TRUE(brings_all_pages());
  announce(*run);
  EXPECT_EQ(run->fates(), std::vector{Fate::kInstalled});
  EXPECT_FALSE(run->pager().drained());
  announce(*run);  // after a lost link
  EXPECT_EQ(run->pager().progress().pages_wrong, 1U);
  EXPECT_EQ(vmm_->wrong_pages(), 1U);
}

// "Only zeros" is content too: a header that was damaged would make zeros of data.
TEST_F(PagerThatVerifies, ComparesZerosThatWereNotSent) {
  uint64_t zero_page = 0;
  while (images_[0].kind(zero_page) != PageKind::kZero)
    ++zero_page;
  auto run = start(0);
  must(run->pager().announce({0, zero_page * kPage, false, {4711}}));
  run->attach_all();
  run->give_final_layout(host_->regions());
  EXPECT_TRUE(waits_for_wrong_page(*run));
  EXPECT_FALSE(run->pager().drained());
}

TEST_F(PagerThatVerifies, GoesOnWithWhatAFormerPagerHadSeen) {
  {
    auto run = start(1);
    run->attach_all();
    run->give_final_layout(host_->regions());
    ASSERT_TRUE(brings_all_pages());
  }
  auto run = start(0);
  run->give_final_layout(host_->regions());
  announce(*run);
  EXPECT_EQ(run->fates(), std::vector{Fate::kInstalled});
  EXPECT_EQ(run->pager().progress().pages_verified, populated_pages() - 1);
}

TEST_F(PagerThatVerifies, RefusesChecksumsThatMakeNoSense) {
  auto run = start(0);
  auto refused = [&](const Checksums& checksums) {
    Status done = run->pager().announce(checksums);
    return done ? std::string("taken") : done.error().message();
  };
  EXPECT_THAT(refused({2, 0, false, {1}}), HasSubstr("region that is not there"));
  EXPECT_THAT(refused({0, 100, false, {1}}), HasSubstr("do not fit"));
  EXPECT_THAT(refused({0, kPages * kPage, false, {1}}), HasSubstr("do not fit"));
  EXPECT_THAT(refused({0, (kPages - 1) * kPage, false, {1, 2}}), HasSubstr("do not fit"));
  EXPECT_THAT(refused({0, uint64_t{0} - kPage, false, {1}}), HasSubstr("do not fit"));
  EXPECT_EQ(refused({0, (kPages - 1) * kPage, false, {1}}), "taken");
}

TEST(PagerThatDoesNotVerify, RefusesChecksums) {
  if (auto why = ToyVmm::unavailable(); !why.empty()) GTEST_SKIP() << why;
  std::vector<MemoryImage> images;
  images.emplace_back(16, 1, all_data);
  ToyVmm vmm(images);
  PagerRun run(vmm, 1, [](int) { return nullptr; });
  EXPECT_FALSE(run.pager().announce({0, 0, true, {}}).ok());
}

TEST(ChecksumAnnouncer, TellsEveryPopulatedPageOnceAndSaysWhenThatWasAll) {
  std::vector<MemoryImage> images;
  images.emplace_back(300, 1, mixed);
  images.emplace_back(32, 2, all_holes);
  images.emplace_back(64, 3, all_data);
  std::vector<RamRegion> regions;
  for (const MemoryImage& image : images)
    regions.push_back(image.exported());
  std::vector<std::vector<unsigned>> told{std::vector<unsigned>(300), std::vector<unsigned>(32),
                                          std::vector<unsigned>(64)};
  auto all = announcements(regions);
  for (const Checksums& batch : all) {
    for (size_t i = 0; i < batch.pages.size(); ++i) {
      uint64_t page = batch.offset / kPage + i;
      ++told[batch.region][page];
      std::span bytes(regions[batch.region].alias() + page * kPage, kPage);
      EXPECT_EQ(batch.pages[i], crc32c(bytes)) << batch.region << " " << page;
    }
  }
  for (size_t region = 0; region < images.size(); ++region) {
    for (uint64_t page = 0; page < images[region].pages(); ++page) {
      EXPECT_EQ(told[region][page], images[region].kind(page) == PageKind::kHole ? 0U : 1U);
    }
  }
  for (const Checksums& batch : all)
    EXPECT_EQ(batch.last, &batch == &all.back());
}

TEST(ChecksumAnnouncer, BeginsAnewAndWaitsWhenItIsHeld) {
  std::vector<MemoryImage> images;
  images.emplace_back(64, 3, all_data);
  std::vector<RamRegion> regions{};
  regions.push_back(images[0].exported());
  auto layout = std::make_shared<SourceLayout>();
  layout->extents.push_back({{0, 32 * kPage}, {48 * kPage, 16 * kPage}});
  auto loop = must(EventLoop::create());
  std::vector<uint64_t> offsets;
  ChecksumAnnouncer* held = nullptr;
  ChecksumAnnouncer announcer(*loop, regions, [&](const Checksums& batch) {
    offsets.push_back(batch.offset);
    // The queue is full; nothing more comes until it is said to have emptied.
    if (offsets.size() == 1) {
      held->hold(true);
      loop->after(std::chrono::milliseconds(20), [&] {
        EXPECT_EQ(offsets.size(), 1U);
        held->start(layout);
        held->hold(false);
      });
    }
    if (batch.last) loop->stop();
  });
  held = &announcer;
  announcer.start(layout);
  must(loop->run());
  EXPECT_EQ(offsets, (std::vector<uint64_t>{0, 0, 48 * kPage, 0}));
}

}  // namespace
}  // namespace vmhop

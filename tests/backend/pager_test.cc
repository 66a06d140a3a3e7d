#include "backend/pager.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "tests/backend/pager_run.h"
#include "tests/backend/source_host.h"

namespace vmhop {
namespace {

using namespace testing_support;

class PagerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (auto why = ToyVmm::unavailable(); !why.empty()) GTEST_SKIP() << why;
    use({{768, 1, mixed}, {256, 2, mixed}});
  }

  struct Memory {
    uint64_t pages;
    uint64_t seed;
    MemoryImage::Shape shape;
  };
  void use(const std::vector<Memory>& memories, SourceHost::Wire wire = SourceHost::Wire::kPlain) {
    vmm_.reset();
    host_.reset();
    images_.clear();
    for (const Memory& memory : memories)
      images_.emplace_back(memory.pages, memory.seed, memory.shape);
    host_ = std::make_unique<SourceHost>(images_, wire);
    vmm_ = std::make_unique<ToyVmm>(images_);
    host_->write_to(vmm_->memfds());
  }
  PagerRun::Connect connect() {
    return [this](int) { return host_->connect(); };
  }
  void expect_right_memory() { EXPECT_EQ(vmm_->wrong_pages(), 0U) << vmm_->first_wrong(); }
  void expect_drained_page_map() {
    auto counts = vmm_->counts();
    EXPECT_EQ(counts.absent + counts.reading + counts.filled, 0U);
  }
  void expect_holes_unpopulated() {
    for (size_t region = 0; region < images_.size(); ++region) {
      for (uint64_t page = 0; page < images_[region].pages(); ++page) {
        bool data = images_[region].kind(page) == PageKind::kData;
        ASSERT_EQ(vmm_->is_populated(region, page), data) << region << ", page " << page;
      }
    }
  }

  std::vector<MemoryImage> images_;
  std::unique_ptr<SourceHost> host_;
  std::unique_ptr<ToyVmm> vmm_;
};

TEST_F(PagerTest, BringsEveryPageHomeWithoutTheGuestsHelp) {
  PagerRun run(*vmm_, 2, connect());
  run.attach_all();
  run.give_final_layout(host_->regions());
  ASSERT_TRUE(run.drain()) << run.broken();
  expect_drained_page_map();
  expect_holes_unpopulated();
  Progress progress = run.pager().progress();
  EXPECT_EQ(progress.pages_precached, images_[0].data_pages() + images_[1].data_pages());
  EXPECT_EQ(progress.faults, 0U);
  ASSERT_TRUE(run.pager().finish().ok());
  expect_right_memory();
}

TEST_F(PagerTest, GivesEveryByteToAGuestThatReadsAndWritesMeanwhile) {
  PagerRun run(*vmm_, 2, connect());
  vmm_->start_guest(4, 3000, 1);
  run.attach_all();
  run.give_final_layout(host_->regions());
  ASSERT_TRUE(run.drain()) << run.broken();
  expect_drained_page_map();
  vmm_->join_guest();
  expect_right_memory();
}

TEST_F(PagerTest, GivesEveryByteOverTls) {
  use({{768, 1, mixed}, {256, 2, mixed}}, SourceHost::Wire::kTls);
  PagerRun run(*vmm_, 2, connect());
  vmm_->start_guest(4, 2000, 2);
  run.attach_all();
  run.give_final_layout(host_->regions());
  ASSERT_TRUE(run.drain()) << run.broken();
  vmm_->join_guest();
  expect_right_memory();
}

TEST_F(PagerTest, ServesAGuestByFaultsAloneAndBeforeAnyLayout) {
  host_->forget_layout();
  PagerRun run(*vmm_, 0, connect());
  run.attach_all();
  vmm_->start_guest(4, 1500, 3);
  vmm_->join_guest();
  expect_right_memory();
  EXPECT_GT(run.pager().counters().pages_faulted, 0U);
  EXPECT_FALSE(run.pager().drained()) << "there is no layout";
}

TEST_F(PagerTest, StartsPrecachingWithThePreliminaryLayout) {
  PagerRun run(*vmm_, 1, connect());
  run.attach_all();
  run.pager().set_preliminary_layout(0, {{0, 32 * kPage}});
  ASSERT_TRUE(eventually([&] { return run.pager().counters().pages_precached == 32; }));
  EXPECT_FALSE(run.pager().drained());
  run.give_final_layout(host_->regions());
  ASSERT_TRUE(run.drain()) << run.broken();
  vmm_->start_guest(2, 500, 4);
  vmm_->join_guest();
  expect_right_memory();
}

TEST_F(PagerTest, AnswersFaultsOnDroppedMappingsWithoutTheSource) {
  PagerRun run(*vmm_, 2, connect());
  run.attach_all();
  run.give_final_layout(host_->regions());
  ASSERT_TRUE(run.drain()) << run.broken();
  for (uint64_t page = 0; page < images_[0].pages(); ++page)
    vmm_->write(ToyVmm::kTestThread, 0, page, page + 1);
  host_->disconnect();
  uint64_t read_before = run.pager().counters().bytes_read;
  vmm_->drop_mapping(0, 0, images_[0].pages());
  vmm_->drop_mapping(1, 0, images_[1].pages());
  expect_right_memory();
  EXPECT_EQ(run.pager().counters().bytes_read, read_before);
  EXPECT_GE(run.pager().counters().faults_resolved_here, images_[0].data_pages());
}

TEST_F(PagerTest, AnswersHolesWithoutASource) {
  PagerRun run(*vmm_, 1, [](int) { return nullptr; });
  run.give_final_layout(host_->regions());
  run.wait_for_idle();  // the holes are marked
  EXPECT_EQ(vmm_->read_word(0, 3 * 32, 0), 0U);
  EXPECT_EQ(run.losses(), 0U);
}

TEST_F(PagerTest, AnswersAFaultThatWaitsForASourceOnceThePageIsKnownToBeAHole) {
  PagerRun run(*vmm_, 1, [](int) { return nullptr; });
  std::thread guest([&] { EXPECT_EQ(vmm_->read_word(0, 3 * 32, 0), 0U); });
  ASSERT_TRUE(eventually([&] { return run.pager().counters().faults == 1; }));
  run.give_final_layout(host_->regions());
  guest.join();
}

TEST_F(PagerTest, LetsTheKernelServeHolesOnceItHasFinished) {
  for (uint64_t round = 0; round < 5; ++round) {
    use({{64, 1, all_data}, {4096, 2, all_holes}});
    PagerRun run(*vmm_, 1, connect());
    run.attach_all();
    run.give_final_layout(host_->regions());
    ASSERT_TRUE(run.drain()) << run.broken();
    // They touch holes before, while and after the registration goes.
    vmm_->start_guest(3, 2000, round);
    ASSERT_TRUE(eventually([&] { return vmm_->touches() > 500; }));
    ASSERT_TRUE(run.pager().finish().ok());
    vmm_->join_guest();
    EXPECT_EQ(run.broken(), "");
    expect_right_memory();
    run.pager().detach_sources();  // as when the link is lost afterwards: nothing happens
    run.attach_all();
  }
}

TEST_F(PagerTest, ServesMoreRegionsThanAHandfulOfDescriptors) {
  std::vector<Memory> many;
  for (uint64_t i = 0; i < 40; ++i)
    many.push_back({16, i + 1, all_data});
  use(many);
  PagerRun run(*vmm_, 1, connect());
  run.attach_all();
  vmm_->start_guest(3, 300, 6);
  run.give_final_layout(host_->regions());
  ASSERT_TRUE(run.drain()) << run.broken();
  vmm_->join_guest();
  expect_right_memory();
}

TEST_F(PagerTest, StopsAtOnceAndGivesBackWhatItWasReading) {
  {
    PagerRun run(*vmm_, 2, connect());
    run.attach_all();
    run.give_final_layout(host_->regions());
  }
  auto counts = vmm_->counts();
  EXPECT_EQ(counts.reading + counts.filled, 0U);
  PagerRun next(*vmm_, 2, connect());
  next.attach_all();
  next.give_final_layout(host_->regions());
  ASSERT_TRUE(next.drain()) << next.broken();
  expect_right_memory();
}

TEST_F(PagerTest, SaysThatAllIsHereOnceItIsDrainedAndNotBefore) {
  PagerRun run(*vmm_, 2, connect());
  run.give_final_layout(host_->regions());
  run.wait_for_idle();  // the layout is known, and nothing of it is here
  EXPECT_LT(run.pager().progress().pages_resident, run.pager().progress().pages_total);
  run.attach_all();
  ASSERT_TRUE(run.drain()) << run.broken();
  Progress progress = run.pager().progress();
  ASSERT_GT(progress.pages_hole, 0U) << "a page that is populated with zeros counts as well";
  EXPECT_EQ(progress.pages_resident, progress.pages_total);
}

TEST_F(PagerTest, CountsWhatAFormerPagerHadBrought) {
  {
    PagerRun former(*vmm_, 1, connect());
    former.attach_all();
    former.give_final_layout(host_->regions());
    ASSERT_TRUE(former.drain()) << former.broken();
  }
  PagerRun run(*vmm_, 1, [](int) { return nullptr; });
  run.give_final_layout(host_->regions());
  ASSERT_TRUE(run.drain()) << run.broken();
  Progress progress = run.pager().progress();
  EXPECT_EQ(progress.pages_precached, 0U);
  EXPECT_EQ(progress.pages_resident, progress.pages_total);
}

TEST_F(PagerTest, RefusesAPageMapWithUnknownStates) {
  uint8_t unknown = 77;
  ASSERT_EQ(::pwrite(vmm_->page_map().fd(), &unknown, 1, 64 + 2 * 16 + 5), 1);
  auto pager = Pager::start(vmm_->regions(), vmm_->page_map(), 1, {});
  ASSERT_FALSE(pager.ok());
  EXPECT_NE(pager.error().message().find("page 5"), std::string::npos);
}

}  // namespace
}  // namespace vmhop

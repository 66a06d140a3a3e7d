// The moments at which a thread of the pager depends on another.
#include <gtest/gtest.h>

#include <thread>

#include "tests/backend/fault_injection.h"
#include "tests/backend/pager_run.h"
#include "tests/backend/source_host.h"

namespace vmhop {
namespace {

using namespace testing_support;

class PagerRaces : public testing::Test {
 protected:
  void SetUp() override {
    if (auto why = ToyVmm::unavailable(); !why.empty()) GTEST_SKIP() << why;
    images_.emplace_back(256, 1, all_data);
    host_ = std::make_unique<SourceHost>(images_);
    vmm_ = std::make_unique<ToyVmm>(images_);
    host_->write_to(vmm_->memfds());
  }

  std::unique_ptr<PageSource> held_by(std::shared_ptr<Gate> gate) {
    return std::make_unique<FaultInjectingSource>(host_->connect(),
                                                  FaultScript{.gate = std::move(gate)});
  }
  static std::unique_ptr<PageSource> nothing(int /*lane*/) { return nullptr; }
  bool is(uint64_t page, PageState state) { return vmm_->page_map().region(0).get(page) == state; }
  std::thread guest_reads(uint64_t page) {
    return std::thread(
        [this, page] { EXPECT_EQ(vmm_->read_word(0, page, 3), images_[0].word(page, 3)); });
  }
  static bool faults_are(PagerRun& run, uint64_t count) {
    return eventually([&] { return run.pager().counters().faults == count; });
  }

  std::vector<MemoryImage> images_;
  std::unique_ptr<SourceHost> host_;
  std::unique_ptr<ToyVmm> vmm_;
};

TEST_F(PagerRaces, ResumesFaultsAfterThePageSourceReconnects) {
  PagerRun run(*vmm_, 0, nothing);
  std::thread first = guest_reads(3);
  std::thread second = guest_reads(3);
  std::thread third = guest_reads(9);
  ASSERT_TRUE(faults_are(run, 3));
  EXPECT_TRUE(is(3, PageState::kAbsent));
  run.pager().attach_fault_source(host_->connect());
  first.join();
  second.join();
  third.join();
}

TEST_F(PagerRaces, ReadsAgainWhatALostSourceWasReading) {
  auto gate = std::make_shared<Gate>(false);
  PagerRun run(*vmm_, 0, nothing);
  run.pager().attach_fault_source(held_by(gate));
  std::thread guest = guest_reads(3);
  ASSERT_TRUE(eventually([&] { return gate->held() == 1; }));
  EXPECT_TRUE(is(3, PageState::kReading));
  gate->fail();
  EXPECT_NE(run.wait_for_loss(), "");
  run.pager().attach_fault_source(host_->connect());
  guest.join();
  EXPECT_TRUE(eventually([&] { return is(3, PageState::kResident); }));
}

TEST_F(PagerRaces, GivesAFaultToTheReaderThatHasThePageAlready) {
  auto gate = std::make_shared<Gate>(false);
  PagerRun run(*vmm_, 1, nothing);
  run.pager().set_preliminary_layout(0, {{0, 16 * kPage}});
  run.pager().attach_bulk_source(0, held_by(gate));
  ASSERT_TRUE(eventually([&] { return gate->held() > 0; }));
  run.pager().attach_fault_source(host_->connect());
  std::thread guest = guest_reads(7);
  ASSERT_TRUE(eventually([&] { return run.pager().counters().faults_on_reads == 1; }));
  EXPECT_TRUE(is(7, PageState::kReading));
  gate->open();
  guest.join();
  EXPECT_EQ(run.pager().counters().pages_faulted, 0U);
}

TEST_F(PagerRaces, LeavesNoFaultBehindWhenItsReaderGivesThePageBack) {
  auto gate = std::make_shared<Gate>(false);
  PagerRun run(*vmm_, 1, nothing);
  run.pager().set_preliminary_layout(0, {{0, 16 * kPage}});
  run.pager().attach_bulk_source(0, held_by(gate));
  ASSERT_TRUE(eventually([&] { return gate->held() > 0; }));
  run.pager().attach_fault_source(host_->connect());
  std::thread guest = guest_reads(7);
  ASSERT_TRUE(eventually([&] { return run.pager().counters().faults_on_reads == 1; }));
  gate->fail();
  guest.join();  // by a fault of its own
  EXPECT_TRUE(eventually([&] { return run.pager().counters().pages_faulted == 1; }));
  EXPECT_TRUE(eventually([&] { return is(0, PageState::kAbsent); }));
}

TEST_F(PagerRaces, LetsPrecachersThatSleepTakeUpWhatAnotherGivesBack) {
  auto gate = std::make_shared<Gate>(false);
  PagerRun run(*vmm_, 2, nothing);
  run.give_final_layout(host_->regions());
  run.pager().attach_bulk_source(0, held_by(gate));
  ASSERT_TRUE(eventually([&] { return gate->held() > 0; }));
  uint64_t held = vmm_->counts().reading;
  run.pager().attach_bulk_source(1, host_->connect());
  ASSERT_TRUE(eventually([&] { return vmm_->counts().resident == 256 - held; }));
  EXPECT_FALSE(run.pager().drained());
  gate->fail();
  // No new source for the first.
  ASSERT_TRUE(eventually([&] { return run.pager().drained(); }));
  EXPECT_EQ(vmm_->wrong_pages(), 0U) << vmm_->first_wrong();
}

TEST_F(PagerRaces, LetsPrecachersTakeUpWhatTheFaultHandlerGivesBack) {
  auto gate = std::make_shared<Gate>(false);
  PagerRun run(*vmm_, 1, nothing);
  run.give_final_layout(host_->regions());
  run.pager().attach_fault_source(held_by(gate));
  std::thread guest = guest_reads(200);
  ASSERT_TRUE(eventually([&] { return gate->held() == 1; }));
  run.pager().attach_bulk_source(0, host_->connect());
  ASSERT_TRUE(eventually([&] { return vmm_->counts().resident == 255; }));
  gate->fail();
  guest.join();  // no new source for faults
  EXPECT_TRUE(eventually([&] { return run.pager().drained(); }));
}

TEST_F(PagerRaces, ReadsAgainAHoleThatWasBeingReadWhenHolesWereMarked) {
  std::vector<MemoryImage> images;
  images.emplace_back(64, 1, all_holes);
  SourceHost host(images);
  ToyVmm vmm(images);
  host.write_to(vmm.memfds());
  auto gate = std::make_shared<Gate>(false);
  PagerRun run(vmm, 1, nothing);
  run.pager().attach_bulk_source(
      0, std::make_unique<FaultInjectingSource>(host.connect(), FaultScript{.gate = gate}));
  run.pager().set_preliminary_layout(0, {{5 * kPage, 3 * kPage}});
  ASSERT_TRUE(eventually([&] { return gate->held() > 0; }));
  run.give_final_layout(host.regions());
  ASSERT_TRUE(eventually([&] { return vmm.counts().hole == 61; }));
  gate->fail();
  EXPECT_NE(run.wait_for_loss(), "");
  EXPECT_FALSE(run.pager().drained());
  run.pager().attach_bulk_source(0, host.connect());
  EXPECT_TRUE(run.drain());
}

TEST_F(PagerRaces, NeverSaysDrainedBeforeTheLastPageIsInstalled) {
  auto gate = std::make_shared<Gate>(false);
  PagerRun run(*vmm_, 1, nothing);
  run.give_final_layout(host_->regions());
  run.pager().attach_fault_source(held_by(gate));
  std::thread guest = guest_reads(255);
  ASSERT_TRUE(eventually([&] { return gate->held() == 1; }));
  run.pager().attach_bulk_source(0, host_->connect());
  ASSERT_TRUE(eventually([&] { return vmm_->counts().resident == 255; }));
  for (int i = 0; i < 1000; ++i)
    ASSERT_FALSE(run.pager().drained());
  gate->open();
  guest.join();
  ASSERT_TRUE(run.drain());
}

// Faults that need no source keep the handler from its poll() for as long as they come.
TEST_F(PagerRaces, TakesANewSourceWhileTheGuestFaultsAllTheTime) {
  PagerRun run(*vmm_, 0, nothing);
  run.pager().attach_fault_source(host_->connect());
  for (uint64_t page : {0, 1})
    EXPECT_EQ(vmm_->read_word(0, page, 0), images_[0].word(page, 0));
  run.pager().detach_sources();
  std::atomic<bool> stop = false;
  std::vector<std::thread> noise;
  for (uint64_t page : {0, 1}) {
    noise.emplace_back([&, page] {
      while (!stop) {
        vmm_->drop_mapping(0, page, 1);
        (void)vmm_->read_word(0, page, 0);
      }
    });
  }
  std::thread guest = guest_reads(100);
  run.pager().attach_fault_source(host_->connect());
  guest.join();
  stop = true;
  for (std::thread& thread : noise)
    thread.join();
}

// A guest that waits for a page all the time would otherwise have no precaching.
TEST_F(PagerRaces, PrecachesAlthoughAFaultIsNeverAnswered) {
  auto gate = std::make_shared<Gate>(false);
  PagerRun run(*vmm_, 1, nothing);
  run.pager().attach_fault_source(held_by(gate));
  std::thread guest = guest_reads(200);
  ASSERT_TRUE(eventually([&] { return gate->held() == 1; }));
  run.pager().attach_bulk_source(0, host_->connect());
  run.give_final_layout(host_->regions());
  EXPECT_TRUE(eventually([&] { return vmm_->counts().resident == 255; }));
  gate->open();
  guest.join();
}

TEST_F(PagerRaces, NoticesAConnectionThatEndsWhileNothingIsRead) {
  PagerRun run(*vmm_, 1, [this](int) { return host_->connect(); });
  run.attach_all();
  run.give_final_layout(host_->regions());
  ASSERT_TRUE(run.drain());
  host_->disconnect();
  EXPECT_NE(run.wait_for_loss(), "") << "the fault lane or the bulk lane";
  EXPECT_NE(run.wait_for_loss(), "") << "the other one";
}

TEST_F(PagerRaces, StopsAtOnceWhileItsSourcesAreSilent) {
  auto gate = std::make_shared<Gate>(false);
  std::thread guest;
  {
    PagerRun run(*vmm_, 1, [&](int) { return held_by(gate); });
    run.give_final_layout(host_->regions());
    run.attach_all();
    guest = guest_reads(255);
    ASSERT_TRUE(eventually([&] { return gate->held() > 1; }));
  }
  auto counts = vmm_->counts();
  EXPECT_EQ(counts.reading, 0U);
  EXPECT_EQ(counts.absent, 256U);
  PagerRun next(*vmm_, 0, nothing);
  next.pager().attach_fault_source(host_->connect());
  guest.join();
}

TEST_F(PagerRaces, MarksHolesWhileTheGuestFaultsOnThem) {
  for (uint64_t round = 0; round < 4; ++round) {
    std::vector<MemoryImage> images;
    images.emplace_back(
        4096, 1, [](uint64_t page) { return page % 16 == 0 ? PageKind::kData : PageKind::kHole; });
    SourceHost host(images);
    ToyVmm vmm(images);
    host.write_to(vmm.memfds());
    PagerRun run(vmm, 1, [&](int) { return host.connect(); });
    run.attach_all();
    vmm.start_guest(3, 1000, round);
    run.give_final_layout(host.regions());
    ASSERT_TRUE(run.drain()) << run.broken();
    vmm.join_guest();
    ASSERT_EQ(vmm.wrong_pages(), 0U) << vmm.first_wrong();
  }
}

}  // namespace
}  // namespace vmhop

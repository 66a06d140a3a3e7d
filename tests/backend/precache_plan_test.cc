#include "backend/precache_plan.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/backend/memory_image.h"

namespace vmhop {
namespace {

using namespace testing_support;

constexpr uint64_t kNoLimit = uint64_t{1} << 30;

class PrecachePlanTest : public testing::Test {
 protected:
  PrecachePlanTest()
      : infos_{{"a", 256 * kPage, kPage}, {"b", 128 * kPage, kPage}},
        map_(must(PageMap::create(infos_))),
        memory_(make_regions(), map_),
        plan_(memory_) {}

  std::vector<DestinationMemory::Region> make_regions() const {
    std::vector<DestinationMemory::Region> regions;
    for (const RegionInfo& info : infos_) {
      UniqueFd memfd = must(create_memfd("vmhop-test", info.size));
      // The plan installs nothing.
      regions.push_back({must(RamRegion::map(info, std::move(memfd), Access::kReadWrite)), 0,
                         Userfault(UniqueFd())});
    }
    return regions;
  }
  static PageRange pages(uint32_t region, uint64_t first, uint64_t count) {
    return {region, first * kPage, count * kPage};
  }
  static ExtentList extent(uint64_t first, uint64_t count) {
    return {{first * kPage, count * kPage}};
  }

  std::vector<RegionInfo> infos_;
  PageMap map_;
  DestinationMemory memory_;
  PrecachePlan plan_;
};

TEST_F(PrecachePlanTest, HasNothingToReadBeforeAnythingIsKnown) {
  EXPECT_EQ(plan_.next(kNoLimit), std::nullopt);
  EXPECT_FALSE(plan_.complete());
}

TEST_F(PrecachePlanTest, SweepsWhatIsPopulatedInOrder) {
  plan_.set_extents(1, extent(5, 3));
  plan_.set_extents(0, {{2 * kPage, 4 * kPage}, {100 * kPage, kPage}});
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 2, 4));
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 100, 1));
  EXPECT_EQ(plan_.next(kNoLimit), pages(1, 5, 3));
  EXPECT_EQ(plan_.next(kNoLimit), std::nullopt);
  EXPECT_EQ(map_.region(0).count().reading, 5U);
}

TEST_F(PrecachePlanTest, ClaimsNoMoreThanItIsAskedForButAtLeastOnePage) {
  plan_.set_extents(0, extent(0, 10));
  EXPECT_EQ(plan_.next(4 * kPage), pages(0, 0, 4));
  EXPECT_EQ(plan_.next(4 * kPage + 100), pages(0, 4, 4));
  EXPECT_EQ(plan_.next(1), pages(0, 8, 1));
}

TEST_F(PrecachePlanTest, ClaimsNoRunAcrossAMultipleOfWhatItIsAskedFor) {
  plan_.set_extents(0, extent(3, 20));
  EXPECT_EQ(plan_.next(8 * kPage), pages(0, 3, 5));
  EXPECT_EQ(plan_.next(8 * kPage), pages(0, 8, 8));
  EXPECT_EQ(plan_.next(8 * kPage), pages(0, 16, 7));
}

TEST_F(PrecachePlanTest, KnowsWhatIsBesideHoles) {
  EXPECT_TRUE(plan_.is_beside_holes(pages(0, 10, 4))) << "nothing is known";
  plan_.set_extents(0, extent(0, 256));
  EXPECT_FALSE(plan_.is_beside_holes(pages(0, 10, 4)));
  plan_.set_extents(0, {{0, 100 * kPage}, {101 * kPage, 155 * kPage}});
  EXPECT_TRUE(plan_.is_beside_holes(pages(0, 10, 4)));
  EXPECT_TRUE(plan_.is_beside_holes(pages(0, 200, 4)));
}

TEST_F(PrecachePlanTest, GoesAroundPagesThatAreTaken) {
  ASSERT_TRUE(map_.region(0).claim(3));
  ASSERT_TRUE(map_.region(0).claim(4));
  plan_.set_extents(0, extent(0, 10));
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 0, 3));
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 5, 5));
}

TEST_F(PrecachePlanTest, ReadsTheNeighboursOfAFaultFirst) {
  plan_.set_extents(0, extent(0, 256));
  ASSERT_TRUE(map_.region(0).claim(100));
  plan_.note_fault({0, 100});
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 101, 32));
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 92, 8));
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 0, 92));
}

TEST_F(PrecachePlanTest, PrefersTheLatestFault) {
  plan_.set_extents(0, extent(0, 256));
  for (uint64_t page : {10, 200})
    ASSERT_TRUE(map_.region(0).claim(page));
  plan_.note_fault({0, 10});
  EXPECT_EQ(plan_.next(4 * kPage), pages(0, 11, 1)) << "as far as the next multiple of four pages";
  plan_.note_fault({0, 200});
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 201, 32));
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 192, 8));
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 12, 31)) << "the older neighbourhood goes on";
}

TEST_F(PrecachePlanTest, EndsNeighbourhoodsWithTheRegion) {
  for (uint64_t page : {0, 127})
    ASSERT_TRUE(map_.region(1).claim(page));
  plan_.note_fault({1, 127});
  EXPECT_EQ(plan_.next(kNoLimit), pages(1, 119, 8));
  plan_.note_fault({1, 0});
  EXPECT_EQ(plan_.next(kNoLimit), pages(1, 1, 32));
  EXPECT_EQ(plan_.next(kNoLimit), std::nullopt);
}

TEST_F(PrecachePlanTest, LosesOldFaultsRatherThanNewOnes) {
  for (uint64_t page = 0; page < 200; ++page)
    plan_.note_fault({0, page});
  auto first = plan_.next(kNoLimit);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->offset, 200 * kPage);
}

TEST_F(PrecachePlanTest, ReadsAgainWhatWasGivenBackAndTellsOfIt) {
  plan_.set_extents(0, extent(0, 10));
  ASSERT_EQ(plan_.next(kNoLimit), pages(0, 0, 10));
  map_.region(0).set_resident(0, 4);
  map_.region(0).give_back(4, 2);
  EXPECT_EQ(plan_.next(kNoLimit), std::nullopt);
  int calls = 0;
  plan_.on_taken_back([&] { ++calls; });
  plan_.take_back(pages(0, 0, 10));
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 4, 2));
  EXPECT_EQ(plan_.next(kNoLimit), std::nullopt);
  plan_.on_taken_back(nullptr);
  plan_.take_back(pages(0, 0, 1));
  EXPECT_EQ(calls, 1);
}

// It was being read when the holes were marked, so it is none, and it is in no extent.
TEST_F(PrecachePlanTest, ReadsAgainAPageThatIsInNoExtent) {
  plan_.set_extents(0, extent(0, 10));
  ASSERT_TRUE(map_.region(0).claim(50));
  map_.region(0).mark_holes(10, 246);
  plan_.set_complete();
  ASSERT_EQ(plan_.next(kNoLimit), pages(0, 0, 10));
  map_.region(0).give_back(50, 1);
  plan_.take_back(pages(0, 50, 1));
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 50, 1));
}

TEST_F(PrecachePlanTest, SweepsAgainWhenALayoutIsReplaced) {
  plan_.set_extents(0, extent(0, 10));
  ASSERT_EQ(plan_.next(kNoLimit), pages(0, 0, 10));
  plan_.set_extents(0, extent(0, 12));
  EXPECT_EQ(plan_.next(kNoLimit), pages(0, 10, 2));
}

TEST_F(PrecachePlanTest, GivesEachPageToOneOfManyThreads) {
  plan_.set_extents(0, extent(0, 256));
  plan_.set_extents(1, extent(0, 128));
  std::vector<uint64_t> claimed(4);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < claimed.size(); ++t) {
    threads.emplace_back([&, t] {
      while (auto range = plan_.next((1 + t) * kPage)) {
        claimed[t] += range->length / kPage;
        plan_.note_fault({range->region, range->offset / kPage});
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(claimed[0] + claimed[1] + claimed[2] + claimed[3], 384U);
  EXPECT_EQ(map_.region(0).count().reading + map_.region(1).count().reading, 384U);
}

}  // namespace
}  // namespace vmhop

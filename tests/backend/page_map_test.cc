#include "backend/page_map.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp() is POSIX's
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "tests/backend/memory_image.h"

namespace vmhop {
namespace {

using namespace testing_support;
using testing::HasSubstr;

const std::vector<RegionInfo> kRegions{{"pc.ram", 64 * kPage, kPage}, {"ram1", 32 * kPage, kPage}};

PageMap attach_again(const PageMap& map, std::span<const RegionInfo> regions = kRegions) {
  return must(PageMap::attach(UniqueFd(::dup(map.fd())), regions));
}

std::string refusal(const PageMap& map, const std::vector<RegionInfo>& regions) {
  auto attached = PageMap::attach(UniqueFd(::dup(map.fd())), regions);
  return attached ? "attached" : attached.error().message();
}

TEST(PageMap, BeginsWithEveryPageAbsentAndNoRelocation) {
  PageMap map = must(PageMap::create(kRegions));
  EXPECT_EQ(map.region(0).count().absent, 64U);
  EXPECT_EQ(map.region(1).count().absent, 32U);
  EXPECT_EQ(map.destination_state(), DestinationState::kWaiting);
  EXPECT_EQ(map.run_state(), RunState::kRunning);
  EXPECT_EQ(map.relocation(), RelocationId{});
}

TEST(PageMap, TakesAPageThroughItsStates) {
  PageMap map = must(PageMap::create(kRegions));
  PageStates& states = map.region(0);
  ASSERT_TRUE(states.claim(5));
  EXPECT_EQ(states.get(5), PageState::kReading);
  EXPECT_FALSE(states.claim(5));
  states.give_back(5, 1);
  EXPECT_TRUE(states.claim(5));
  states.set_filled(5, 1);
  EXPECT_EQ(states.get(5), PageState::kFilled);
  EXPECT_FALSE(states.claim(5));
  states.set_resident(5, 1);
  EXPECT_FALSE(states.claim(5));
  ASSERT_TRUE(states.claim(6));
  states.set_hole(6, 1);
  EXPECT_FALSE(states.claim(6));
  auto counts = states.count();
  EXPECT_EQ(counts.resident, 1U);
  EXPECT_EQ(counts.hole, 1U);
  EXPECT_EQ(counts.absent, 62U);
  EXPECT_EQ(map.region(1).count().absent, 32U);
}

TEST(PageMap, ClaimsARunUpToTheFirstPageThatIsTaken) {
  PageMap map = must(PageMap::create(kRegions));
  PageStates& states = map.region(0);
  ASSERT_TRUE(states.claim(10));
  EXPECT_EQ(states.claim_run(4, 100), 6U);
  EXPECT_EQ(states.claim_run(10, 3), 0U);
  EXPECT_EQ(states.claim_run(11, 3), 3U);
  EXPECT_EQ(states.claim_run(60, 100), 4U) << "the region ends";
}

TEST(PageMap, MarksOnlyAbsentPagesAsHoles) {
  PageMap map = must(PageMap::create(kRegions));
  PageStates& states = map.region(0);
  ASSERT_EQ(states.claim_run(0, 3), 3U);
  states.set_filled(1, 1);
  states.set_resident(2, 1);
  EXPECT_EQ(states.mark_holes(0, 8), 5U);
  EXPECT_EQ(states.get(0), PageState::kReading);
  EXPECT_EQ(states.get(1), PageState::kFilled);
  EXPECT_EQ(states.get(2), PageState::kResident);
  EXPECT_EQ(states.get(7), PageState::kHole);
  EXPECT_EQ(states.get(8), PageState::kAbsent);
}

// Claimers, each with its own mapping, and one that marks holes: every page has one owner.
TEST(PageMap, GivesEachPageToOneOwnerUnderContention) {
  constexpr uint64_t kMany = 100'000;
  constexpr unsigned kClaimers = 4;
  std::vector<RegionInfo> regions{{"pc.ram", kMany * kPage, kPage}};
  PageMap map = must(PageMap::create(regions));
  std::vector<std::vector<uint8_t>> claimed(kClaimers, std::vector<uint8_t>(kMany));
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kClaimers; ++t) {
    threads.emplace_back([&, t] {
      PageMap mine = attach_again(map, regions);
      for (uint64_t page = 0; page < kMany;) {
        uint64_t run = mine.region(0).claim_run(page, 1 + (page + t) % 7);
        std::fill_n(claimed[t].begin() + static_cast<ptrdiff_t>(page), run, uint8_t{1});
        page += run > 0 ? run : 1;
      }
    });
  }
  uint64_t holes = map.region(0).mark_holes(kMany / 2, kMany / 2);
  for (std::thread& thread : threads)
    thread.join();
  for (uint64_t page = 0; page < kMany; ++page) {
    unsigned owners = map.region(0).get(page) == PageState::kHole ? 1 : 0;
    for (unsigned t = 0; t < kClaimers; ++t)
      owners += claimed[t][page];
    ASSERT_EQ(owners, 1U) << page;
  }
  EXPECT_EQ(map.region(0).count().hole, holes);
}

// What the owner wrote before `filled` is seen by whoever sees `filled`: TSan watches.
TEST(PageMap, PublishesThePageWithItsState) {
  PageMap map = must(PageMap::create(kRegions));
  std::vector<uint64_t> contents(64);
  std::thread owner([&] {
    for (uint64_t page = 0; page < 64; ++page) {
      ASSERT_TRUE(map.region(0).claim(page));
      contents[page] = page + 1;
      map.region(0).set_filled(page, 1);
    }
  });
  for (uint64_t page = 0; page < 64; ++page) {
    while (map.region(0).get(page) != PageState::kFilled)
      std::this_thread::yield();
    EXPECT_EQ(contents[page], page + 1);
  }
  owner.join();
}

TEST(PageMap, KeepsItsStateForTheNextPager) {
  UniqueFd file;
  RelocationId id{1, 2, 3};
  {
    PageMap map = must(PageMap::create(kRegions));
    ASSERT_EQ(map.region(1).claim_run(3, 2), 2U);
    map.region(1).set_filled(3, 1);
    map.set_destination_state(DestinationState::kCommitted);
    map.set_run_state(RunState::kPaused);
    map.set_relocation(id);
    EXPECT_FALSE(map.source_released());
    map.set_source_released();
    file.reset(::dup(map.fd()));
  }
  PageMap next = must(PageMap::attach(std::move(file), kRegions));
  EXPECT_EQ(next.region(1).get(3), PageState::kFilled);
  EXPECT_EQ(next.region(1).get(4), PageState::kReading);
  EXPECT_EQ(next.destination_state(), DestinationState::kCommitted);
  EXPECT_EQ(next.run_state(), RunState::kPaused);
  EXPECT_EQ(next.relocation(), id);
  EXPECT_TRUE(next.source_released());
}

TEST(PageMap, RefusesToServeOtherRegions) {
  PageMap map = must(PageMap::create(kRegions));
  EXPECT_THAT(refusal(map, {kRegions[0]}), HasSubstr("bytes"));
  EXPECT_THAT(refusal(map, {kRegions[0], {"ram1", 33 * kPage, kPage}}), HasSubstr("bytes"));
  EXPECT_THAT(refusal(map, {kRegions[1], kRegions[0]}), HasSubstr("region"));
  EXPECT_THAT(refusal(map, {{"all", 96 * kPage, kPage}}), testing::Not("attached"));
  EXPECT_THAT(refusal(map, {{"pc.ram", 128 * kPage, 2 * kPage}, kRegions[1]}),
              HasSubstr("region pc.ram"));
}

TEST(PageMap, RefusesAnotherVersionAndWhatIsNoPageMap) {
  PageMap map = must(PageMap::create(kRegions));
  uint32_t version = 99;
  ASSERT_EQ(::pwrite(map.fd(), &version, sizeof version, 8), 4);
  EXPECT_THAT(refusal(map, kRegions), HasSubstr("version"));
  uint64_t magic = 1;
  ASSERT_EQ(::pwrite(map.fd(), &magic, sizeof magic, 0), 8);
  EXPECT_THAT(refusal(map, kRegions), HasSubstr("version"));
}

class PageMapFile : public testing::Test {
 protected:
  PageMapFile() {
    std::string name = testing::TempDir() + "vmhop-pages-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/pages";
  }
  ~PageMapFile() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
  std::string path_;
};

TEST_F(PageMapFile, OutlivesWhoMadeIt) {
  {
    PageMap map = must(PageMap::create(kRegions, path_));
    map.set_destination_state(DestinationState::kCommitted);
    ASSERT_TRUE(map.region(1).claim(7));
  }
  PageMap found = must(PageMap::attach(UniqueFd(::open(path_.c_str(), O_RDWR)), kRegions));
  EXPECT_EQ(found.destination_state(), DestinationState::kCommitted);
  EXPECT_EQ(found.region(1).get(7), PageState::kReading);
}

TEST_F(PageMapFile, IsForItsOwnerAloneAndReplacesAnEarlierVms) {
  {
    PageMap former = must(PageMap::create(kRegions, path_));
    former.set_destination_state(DestinationState::kDrained);
  }
  PageMap map = must(PageMap::create(kRegions, path_));
  EXPECT_EQ(map.destination_state(), DestinationState::kWaiting);
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
}

TEST_F(PageMapFile, SaysWhatItNeedsWhenTheDiskIsFull) {
  // More than any disk has.
  const std::vector<RegionInfo> huge{{"ram", uint64_t{1} << 62, kPage}};
  auto map = PageMap::create(huge, path_);
  ASSERT_FALSE(map.ok());
  EXPECT_THAT(map.error().message(), HasSubstr("needs 1099511627777 KiB"));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(PageMapFile, HasRoomForChecksumsOnceItIsAskedFor) {
  {
    PageMap map = must(PageMap::create(kRegions, path_));
    EXPECT_EQ(map.checksums(0), nullptr);
    must(map.add_checksums());
    must(map.add_checksums());
    ASSERT_TRUE(map.region(1).claim(31));
    EXPECT_EQ(map.checksums(1)->arrived(31, 4711), PageChecksums::Verdict::kUnknown);
  }
  PageMap found = must(PageMap::attach(UniqueFd(::open(path_.c_str(), O_RDWR)), kRegions));
  ASSERT_NE(found.checksums(1), nullptr);
  EXPECT_EQ(found.checksums(0)->pages(), 64U);
  EXPECT_EQ(found.region(1).get(31), PageState::kReading);
  EXPECT_EQ(found.region(0).count().absent, 64U);
  EXPECT_EQ(found.checksums(1)->announced(31, 4711), PageChecksums::Announcement::kVerified);
}

TEST(PageMap, NamesItsStates) {
  EXPECT_STREQ(page_state_name(PageState::kFilled), "filled");
  EXPECT_STREQ(page_state_name(static_cast<PageState>(77)), "invalid");
  EXPECT_STREQ(destination_state_name(DestinationState::kReturned), "returned");
  EXPECT_STREQ(destination_state_name(DestinationState::kAborted), "aborted");
}

}  // namespace
}  // namespace vmhop

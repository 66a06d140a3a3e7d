#include "backend/ram_region.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "tests/backend/memory_image.h"

namespace vmhop {
namespace {

using namespace testing_support;

constexpr uint64_t kPages = 256;

TEST(RamRegion, HasNoExtentsWhileItIsEmpty) {
  RamRegion region = MemoryImage(kPages, 1, all_holes).exported();
  EXPECT_TRUE(must(region.populated_extents()).empty());
  EXPECT_FALSE(must(region.is_populated(0)));
  EXPECT_FALSE(must(region.is_populated((kPages - 1) * kPage)));
}

TEST(RamRegion, IsOneExtentWhenItIsFull) {
  RamRegion region = MemoryImage(kPages, 1, all_data).exported();
  EXPECT_EQ(must(region.populated_extents()), (ExtentList{{0, kPages * kPage}}));
  EXPECT_TRUE(must(region.is_populated((kPages - 1) * kPage)));
}

TEST(RamRegion, ListsEveryOtherPage) {
  auto every_other = [](uint64_t page) {
    return page % 2 == 1 ? PageKind::kData : PageKind::kHole;
  };
  RamRegion region = MemoryImage(kPages, 1, every_other).exported();
  ExtentList extents = must(region.populated_extents());
  ASSERT_EQ(extents.size(), kPages / 2);
  for (uint64_t i = 0; i < extents.size(); ++i)
    EXPECT_EQ(extents[i], (Extent{(2 * i + 1) * kPage, kPage}));
  EXPECT_TRUE(is_well_formed(extents, kPages * kPage, kPage));
  EXPECT_FALSE(must(region.is_populated(0)));
  EXPECT_TRUE(must(region.is_populated(kPage)));
}

TEST(RamRegion, CountsPagesOfZerosAsPopulated) {
  RamRegion region = MemoryImage(kPages, 1, [](uint64_t) { return PageKind::kZero; }).exported();
  EXPECT_EQ(must(region.populated_extents()), (ExtentList{{0, kPages * kPage}}));
}

TEST(RamRegion, LosesWhatIsPunched) {
  RamRegion region = MemoryImage(kPages, 1, all_data).exported();
  ASSERT_EQ(
      ::fallocate(region.memfd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * kPage, 5 * kPage),
      0);
  EXPECT_EQ(must(region.populated_extents()),
            (ExtentList{{0, 3 * kPage}, {8 * kPage, (kPages - 8) * kPage}}));
  EXPECT_TRUE(must(region.is_populated(2 * kPage)));
  EXPECT_FALSE(must(region.is_populated(3 * kPage)));
  EXPECT_TRUE(must(region.is_populated(8 * kPage)));
}

TEST(RamRegion, AgreesWithTheImageInEveryShape) {
  MemoryImage image(kPages, 1, mixed);
  RamRegion region = image.exported();
  ExtentList extents = must(region.populated_extents());
  for (uint64_t page = 0; page < kPages; ++page) {
    bool populated = image.kind(page) != PageKind::kHole;
    size_t at = find_extent(extents, page * kPage);
    EXPECT_EQ(at < extents.size() && extents[at].offset <= page * kPage, populated) << page;
    EXPECT_EQ(must(region.is_populated(page * kPage)), populated) << page;
  }
}

TEST(RamRegion, RefusesAFileOfAnotherSize) {
  UniqueFd memfd = must(create_memfd("vmhop-test", 8 * kPage));
  auto region = RamRegion::map({"pc.ram", 9 * kPage, kPage}, std::move(memfd), Access::kRead);
  ASSERT_FALSE(region.ok());
  EXPECT_NE(region.error().message().find("pc.ram"), std::string::npos);
}

TEST(RamRegion, RefusesSizesThatAreNoNumberOfPages) {
  for (uint64_t size : {uint64_t{0}, uint64_t{kPage + 1}}) {
    UniqueFd memfd = must(create_memfd("vmhop-test", size == 0 ? kPage : size));
    EXPECT_FALSE(RamRegion::map({"x", size, kPage}, std::move(memfd), Access::kRead).ok());
  }
  EXPECT_FALSE(
      RamRegion::map({"x", kPage, 0}, must(create_memfd("vmhop-test", kPage)), Access::kRead).ok());
}

}  // namespace
}  // namespace vmhop

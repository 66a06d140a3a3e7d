#include "backend/base/extents.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/backend/memory_image.h"

namespace vmhop {
namespace {

using testing_support::Random;

constexpr uint64_t kUnits = 96;
using Bitmap = std::vector<bool>;

ExtentList extents_of(const Bitmap& bitmap) {
  ExtentList extents;
  for (uint64_t i = 0; i < bitmap.size(); ++i) {
    if (!bitmap[i]) continue;
    if (!extents.empty() && extents.back().end() == i) {
      ++extents.back().length;
    } else {
      extents.push_back({i, 1});
    }
  }
  return extents;
}

Bitmap bitmap_of(const ExtentList& extents) {
  Bitmap bitmap(kUnits);
  for (const Extent& extent : extents)
    std::fill_n(bitmap.begin() + static_cast<ptrdiff_t>(extent.offset), extent.length, true);
  return bitmap;
}

// Dense, sparse, and everything between, by seed.
Bitmap random_bitmap(uint64_t seed) {
  Random random(seed);
  uint64_t density = random.below(11);
  Bitmap bitmap(kUnits);
  for (auto bit : bitmap)
    bit = random.below(10) < density;
  return bitmap;
}

class ExtentsProperty : public testing::TestWithParam<uint64_t> {};

TEST_P(ExtentsProperty, ListsAreWellFormedAndCountTheirBytes) {
  Bitmap bitmap = random_bitmap(GetParam());
  ExtentList extents = extents_of(bitmap);
  EXPECT_TRUE(is_well_formed(extents, kUnits, 1));
  EXPECT_EQ(total_length(extents),
            static_cast<uint64_t>(std::count(bitmap.begin(), bitmap.end(), true)));
}

TEST_P(ExtentsProperty, DifferenceIsWhatIsLeftAndNotRight) {
  Bitmap left = random_bitmap(GetParam());
  Bitmap right = random_bitmap(GetParam() + 1000);
  Bitmap expected(kUnits);
  for (size_t i = 0; i < kUnits; ++i)
    expected[i] = left[i] && !right[i];
  ExtentList found = difference(extents_of(left), extents_of(right));
  EXPECT_EQ(found, extents_of(expected));
}

TEST_P(ExtentsProperty, MergeFillsGapsUpToTheLimitAndNoOthers) {
  Bitmap bitmap = random_bitmap(GetParam());
  for (uint64_t gap : {0, 1, 3, 200}) {
    Bitmap expected = bitmap;
    ExtentList extents = extents_of(bitmap);
    for (size_t i = 0; i + 1 < extents.size(); ++i) {
      if (extents[i + 1].offset - extents[i].end() > gap) continue;
      for (uint64_t at = extents[i].end(); at < extents[i + 1].offset; ++at)
        expected[at] = true;
    }
    ExtentList merged = merge_gaps(extents, gap);
    EXPECT_EQ(bitmap_of(merged), expected) << "gap " << gap;
    EXPECT_TRUE(is_well_formed(merged, kUnits, 1));
  }
}

TEST_P(ExtentsProperty, FindGivesTheExtentThatHoldsTheOffsetOrTheNext) {
  ExtentList extents = extents_of(random_bitmap(GetParam()));
  for (uint64_t offset = 0; offset <= kUnits; ++offset) {
    size_t expected = 0;
    while (expected < extents.size() && extents[expected].end() <= offset)
      ++expected;
    EXPECT_EQ(find_extent(extents, offset), expected) << offset;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ExtentsProperty, testing::Range<uint64_t>(0, 60));

TEST(Extents, RefuseWhatIsNotAListOfExtents) {
  EXPECT_TRUE(is_well_formed({}, 0, 4096));
  auto accepts = [](ExtentList extents) { return is_well_formed(extents, 64, 4); };
  EXPECT_TRUE(accepts({{0, 4}, {8, 56}}));
  EXPECT_FALSE(accepts({{0, 0}})) << "empty";
  EXPECT_FALSE(accepts({{2, 4}})) << "not aligned";
  EXPECT_FALSE(accepts({{0, 6}})) << "half a unit";
  EXPECT_FALSE(accepts({{0, 4}, {4, 4}})) << "touching";
  EXPECT_FALSE(accepts({{0, 8}, {4, 8}})) << "overlapping";
  EXPECT_FALSE(accepts({{8, 4}, {0, 4}})) << "not sorted";
  EXPECT_FALSE(accepts({{60, 8}})) << "past the end";
  EXPECT_FALSE(accepts({{68, 4}})) << "beyond the end";
  EXPECT_FALSE(accepts({{4, ~uint64_t{0} - 3}})) << "wraps around";
}

}  // namespace
}  // namespace vmhop

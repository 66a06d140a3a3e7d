// Each page is compared once, whoever speaks first; and a pager that takes over knows what was
// seen.
#include "backend/page_checksums.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

namespace vmhop {
namespace {

using Verdict = PageChecksums::Verdict;
using Announcement = PageChecksums::Announcement;
constexpr uint32_t kZeros = 77;

class Checksums : public testing::Test {
 protected:
  std::array<std::atomic<uint64_t>, 4> slots_{};
  PageChecksums checksums_{slots_};
};

TEST_F(Checksums, ArePairedWhicheverComesFirst) {
  EXPECT_EQ(checksums_.announced(0, 5), Announcement::kFirst);
  EXPECT_EQ(checksums_.arrived(0, 5), Verdict::kRight);
  EXPECT_EQ(checksums_.arrived(1, 6), Verdict::kUnknown);
  EXPECT_EQ(checksums_.announced(1, 6), Announcement::kVerified);
  EXPECT_EQ(checksums_.count(kZeros).verified, 2U);
}

TEST_F(Checksums, OfAPageThatCameWrongAreForgottenSoThatItMayComeAgain) {
  EXPECT_EQ(checksums_.announced(0, 5), Announcement::kFirst);
  EXPECT_EQ(checksums_.arrived(0, 6), Verdict::kWrong);
  EXPECT_EQ(checksums_.arrived(0, 6), Verdict::kWrong);
  EXPECT_EQ(checksums_.arrived(0, 5), Verdict::kRight);
  EXPECT_EQ(checksums_.count(kZeros).wrong, 0U);
}

TEST_F(Checksums, ThatComeTooLateAreSaidOnce) {
  EXPECT_EQ(checksums_.arrived(0, 6), Verdict::kUnknown);
  EXPECT_EQ(checksums_.announced(0, 5), Announcement::kWrong);
  EXPECT_EQ(checksums_.announced(0, 5), Announcement::kRepeated);
  EXPECT_EQ(checksums_.count(kZeros).wrong, 1U);
}

// Zero is a checksum like any other.
TEST_F(Checksums, MayBeZero) {
  EXPECT_EQ(checksums_.announced(0, 0), Announcement::kFirst);
  EXPECT_EQ(checksums_.arrived(0, 1), Verdict::kWrong);
  EXPECT_EQ(checksums_.arrived(0, 0), Verdict::kRight);
}

TEST_F(Checksums, OfWhatIsHereAndWasNeverAnnouncedAreCounted) {
  EXPECT_EQ(checksums_.arrived(0, 5), Verdict::kUnknown);
  EXPECT_EQ(checksums_.arrived(1, kZeros), Verdict::kUnknown);
  EXPECT_EQ(checksums_.announced(2, 5), Announcement::kFirst);
  EXPECT_EQ(checksums_.count(kZeros).unannounced, 1U);
}

// Of a pager that dies between comparing and installing.
TEST_F(Checksums, AreComparedAgainForAPageThatArrivesAgain) {
  EXPECT_EQ(checksums_.announced(0, 5), Announcement::kFirst);
  EXPECT_EQ(checksums_.arrived(0, 5), Verdict::kRight);
  checksums_.forget_arrival(0);
  EXPECT_EQ(checksums_.count(kZeros).verified, 0U);
  EXPECT_EQ(checksums_.arrived(0, 6), Verdict::kWrong);
  EXPECT_EQ(checksums_.arrived(0, 5), Verdict::kRight);

  EXPECT_EQ(checksums_.arrived(1, 6), Verdict::kUnknown);
  checksums_.forget_arrival(1);
  EXPECT_EQ(checksums_.announced(1, 5), Announcement::kFirst);

  EXPECT_EQ(checksums_.arrived(2, 6), Verdict::kUnknown);
  EXPECT_EQ(checksums_.announced(2, 5), Announcement::kWrong);
  checksums_.forget_arrival(2);
  EXPECT_EQ(checksums_.count(kZeros).wrong, 0U);
}

TEST(ChecksumsOfTwoThreads, AreComparedExactlyOnce) {
  constexpr uint64_t kPages = 20000;
  std::vector<std::atomic<uint64_t>> slots(kPages);
  PageChecksums checksums{slots};
  uint64_t at_arrival = 0;
  uint64_t at_announcement = 0;
  std::thread arriving([&] {
    for (uint64_t page = 0; page < kPages; ++page)
      at_arrival += checksums.arrived(page, static_cast<uint32_t>(page)) == Verdict::kRight;
  });
  for (uint64_t page = 0; page < kPages; ++page) {
    at_announcement +=
        checksums.announced(page, static_cast<uint32_t>(page)) == Announcement::kVerified;
  }
  arriving.join();
  EXPECT_EQ(at_arrival + at_announcement, kPages);
  EXPECT_EQ(checksums.count(kPages).verified, kPages);
}

}  // namespace
}  // namespace vmhop

// Who is let in, who is not, and how either side notices the end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/rdma/rdma_host.h"

namespace vmhop::testing_support {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

class RdmaConnection : public testing::Test {
 protected:
  RdmaConnection() { images_.emplace_back(512, 1, all_data); }

  static void spoil(RdmaToken& token) { token[17] ^= 1; }
  PageRead first_page(const RdmaPair& pair) { return {{0, 0, kPage}, pair.target(0)}; }
  // Polls until something arrives or the source fails.
  static Status finish(PageSource& source) {
    std::array<PageArrival, 4> arrivals;
    for (;;) {
      VMHOP_ASSIGN(size_t count, source.poll(arrivals));
      if (count > 0) return ok_status();
      if (!wait_for(source)) return Error("nothing came");
    }
  }

  std::vector<MemoryImage> images_;
};

TEST_F(RdmaConnection, ReadsPagesStraightIntoTheirPlace) {
  RdmaPair pair(images_);
  pair.establish();
  auto source = pair.source(0);
  ASSERT_TRUE(source->post(std::vector{first_page(pair)}).ok());
  Status done = finish(*source);
  ASSERT_TRUE(done.ok()) << done.error().message();
  EXPECT_TRUE(images_[0].matches(0, pair.target(0)));
}

TEST_F(RdmaConnection, IsRejectedWithAWrongTicket) {
  RdmaPair pair(images_);
  RdmaOffer offer = must(pair.offer());
  spoil(offer.tickets[0].request);
  Status connected = pair.connect(offer);
  ASSERT_FALSE(connected.ok());
  EXPECT_THAT(connected.error().message(), HasSubstr("rejected"));
}

TEST_F(RdmaConnection, IsRejectedWithTheTicketOfAnotherConnection) {
  RdmaPair pair(images_);
  RdmaOffer offer = must(pair.offer());
  std::swap(offer.tickets[0], offer.tickets[1]);
  EXPECT_FALSE(pair.connect(offer).ok());
}

TEST_F(RdmaConnection, NeedsATicketThatWasNotUsedBefore) {
  RdmaPair pair(images_);
  RdmaOffer offer = must(pair.offer());
  must(pair.connect(offer));
  EXPECT_FALSE(pair.connect(offer).ok());
}

TEST_F(RdmaConnection, NeedsATicketOfTheLatestOffer) {
  RdmaPair pair(images_);
  RdmaOffer former = must(pair.offer());
  RdmaOffer latest = must(pair.offer());
  EXPECT_FALSE(pair.connect(former).ok());
  Status connected = pair.connect(latest);
  EXPECT_TRUE(connected.ok()) << connected.error().message();
}

TEST_F(RdmaConnection, IsGivenUpWhenWhoAnswersIsNotTheSource) {
  RdmaPair pair(images_);
  RdmaOffer offer = must(pair.offer());
  spoil(offer.tickets[0].reply);
  Status connected = pair.connect(offer);
  ASSERT_FALSE(connected.ok());
  EXPECT_THAT(connected.error().message(), HasSubstr("is not the source"));
}

TEST_F(RdmaConnection, FailsWhereNobodyListens) {
  RdmaPair pair(images_);
  RdmaOffer offer = must(pair.offer());
  offer.port = static_cast<uint16_t>(offer.port ^ 1);
  EXPECT_FALSE(pair.connect(offer).ok());
}

TEST_F(RdmaConnection, FailsWhenNoDeviceLeadsToTheSource) {
  RdmaPair pair(images_);
  RdmaOffer offer = must(pair.offer());
  offer.addresses = {"127.0.0.9"};
  Status connected = pair.connect(offer);
  ASSERT_FALSE(connected.ok());
}

TEST_F(RdmaConnection, IsAwaitedByTheSourceOnlySoLong) {
  RdmaPair pair(images_);
  must(pair.offer());
  Status there = pair.exported().await_connections(milliseconds(10));
  ASSERT_FALSE(there.ok());
  EXPECT_EQ(there.error().kind(), ErrorKind::kTimedOut);
}

TEST_F(RdmaConnection, MakesRoomForTheConnectionsOfANewOffer) {
  RdmaPair pair(images_);
  pair.establish();
  auto old_source = pair.source(0);
  RdmaOffer again = must(pair.offer());
  EXPECT_FALSE(finish(*old_source).ok());  // its connection was closed
  old_source.reset();
  must(pair.connect(again));
  for (const MemoryKeys& keys : pair.exported().keys())
    must(pair.imported().add_keys(keys));
  auto source = pair.source(0);
  ASSERT_TRUE(source->post(std::vector{first_page(pair)}).ok());
  EXPECT_TRUE(finish(*source).ok());
  EXPECT_THAT(pair.losses(), testing::IsEmpty());  // it was the source's own doing
}

TEST_F(RdmaConnection, ThatTheDestinationClosesIsReportedToTheSource) {
  RdmaPair pair(images_);
  pair.establish();
  pair.source(0).reset();
  EXPECT_TRUE(eventually([&] { return pair.losses().size() == 1; }));
}

TEST_F(RdmaConnection, GivesEachPageSourceOnce) {
  RdmaPair pair(images_);
  pair.establish();
  auto source = pair.source(1);
  EXPECT_FALSE(pair.imported().take_source(1, nullptr).ok());
  EXPECT_FALSE(pair.imported().take_source(9, nullptr).ok());
}

TEST_F(RdmaConnection, ReadsNothingThatIsNotRegistered) {
  RdmaPair pair(images_);
  must(pair.connect(must(pair.offer())));
  auto added = must(pair.exported().register_memory(pair.populated()));
  // As a destination that was told, or invents, an address beyond what it may read.
  added[0].ranges[0].address += added[0].ranges[0].length;
  must(pair.imported().add_keys(added[0]));
  auto source = pair.source(0);
  ASSERT_TRUE(source->post(std::vector{first_page(pair)}).ok());
  Status done = finish(*source);
  ASSERT_FALSE(done.ok());
  EXPECT_THAT(done.error().message(), HasSubstr("remote access error"));
}

TEST_F(RdmaConnection, RefusesKeysThatMakeNoSense) {
  RdmaPair pair(images_);
  must(pair.connect(must(pair.offer())));
  auto size = images_[0].info().size;
  using Range = MemoryKeys::Range;
  for (Range range : {Range{1, kPage, 0, 0}, Range{0, 1, 0, 0}, Range{0, 0, 0, 0},
                      Range{size, kPage, 0, 0}, Range{0, size + kPage, 0, 0}}) {
    EXPECT_FALSE(pair.imported().add_keys({0, {range}}).ok());
  }
  EXPECT_FALSE(pair.imported().add_keys({7, {{0, kPage, 0, 0}}}).ok());
}

TEST_F(RdmaConnection, RegistersWhatIsPopulatedAndNoHoles) {
  std::vector<MemoryImage> images;
  images.emplace_back(
      4096, 1, [](uint64_t page) { return page % 1024 < 100 ? PageKind::kData : PageKind::kHole; });
  RdmaPair pair(images);
  pair.establish();
  EXPECT_EQ(pair.exported().registered_bytes(), 400U * kPage);
  EXPECT_EQ(total_length(pair.populated()[0]), 400U * kPage);
}

TEST_F(RdmaConnection, RegistersWhatGrewAndKeepsTheRest) {
  std::vector<MemoryImage> images;
  images.emplace_back(1024, 1, all_data);
  RdmaPair pair(images);
  must(pair.connect(must(pair.offer())));
  std::vector<ExtentList> half{{{0, 512 * kPage}}};
  auto first = must(pair.exported().register_memory(half));
  auto second = must(pair.exported().register_memory(pair.populated()));
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].ranges.front().offset, 512U * kPage);
  EXPECT_EQ(pair.exported().registered_bytes(), 1024U * kPage);
  EXPECT_TRUE(must(pair.exported().register_memory(pair.populated())).empty());
}

}  // namespace
}  // namespace vmhop::testing_support

#include "backend/tcp/page_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <thread>
#include <utility>

#include "tests/backend/memory_image.h"

namespace vmhop {
namespace {

using namespace testing_support;
using testing::HasSubstr;

constexpr int kPatienceMs = 20'000;

class PageServerLane : public testing::Test {
 protected:
  PageServerLane() {
    images_.emplace_back(2048, 1, mixed);
    regions_.push_back(images_.front().exported());
    store_ = std::make_unique<PageStore>(regions_);
    auto layout = std::make_shared<SourceLayout>();
    layout->extents.push_back(must(regions_[0].populated_extents()));
    store_->set_layout(std::move(layout));
    auto [left, right] = must(socket_pair(SOCK_STREAM));
    peer_ = must(make_plain_stream(std::move(left)));
    server_ = must(PageServer::start(must(make_plain_stream(std::move(right))), *store_,
                                     PageServer::Pace::kFaults, counters_,
                                     [this](const Error& error) { end_.set_value(error); }));
  }

  void ask(std::vector<tcp::RequestRange> ranges) {
    tcp::RequestHeader header{tcp::kRequestMagic, static_cast<uint32_t>(ranges.size())};
    must(write_exactly(*peer_, std::as_bytes(std::span(&header, 1)), kPatienceMs));
    must(write_exactly(*peer_, std::as_bytes(std::span(ranges)), kPatienceMs));
  }
  template <typename T>
  T hear() {
    T value{};
    must(read_exactly(*peer_, std::as_writable_bytes(std::span(&value, 1)), kPatienceMs));
    return value;
  }
  std::string how_it_ended() { return end_.get_future().get().message(); }
  void expect_refusal(const tcp::RequestRange& range) {
    ask({range});
    EXPECT_EQ(hear<tcp::ReplyHeader>().runs, tcp::kRefusedRuns);
    hear<tcp::ReplyRun>();
    EXPECT_THAT(how_it_ended(), HasSubstr("does not have"));
  }

  std::vector<MemoryImage> images_;
  std::vector<RamRegion> regions_;
  std::unique_ptr<PageStore> store_;
  PageServerCounters counters_;
  std::promise<Error> end_;
  std::unique_ptr<ByteStream> peer_;
  std::unique_ptr<PageServer> server_;
};

TEST_F(PageServerLane, SendsDataAndNamesZeros) {
  ask({{0, 3 * kPage, 62 * kPage}});  // data, zero page
  ASSERT_EQ(images_[0].kind(62), PageKind::kData);
  ASSERT_EQ(images_[0].kind(63), PageKind::kHole);
  ASSERT_EQ(images_[0].kind(64), PageKind::kZero);
  auto header = hear<tcp::ReplyHeader>();
  EXPECT_EQ(header.magic, tcp::kReplyMagic);
  std::vector<tcp::ReplyRun> runs;
  for (uint32_t i = 0; i < header.runs; ++i)
    runs.push_back(hear<tcp::ReplyRun>());
  EXPECT_EQ(runs.back().kind, static_cast<uint16_t>(tcp::RunKind::kZero));
  EXPECT_EQ(runs.back().length, 2 * kPage);
  std::vector<std::byte> page(kPage);
  must(read_exactly(*peer_, page, kPatienceMs));
  EXPECT_TRUE(images_[0].matches(62, page.data()));
}

TEST_F(PageServerLane, KnowsNoLayoutYetAndAnswersAllTheSame) {
  store_->set_layout(nullptr);
  auto before = regions_[0].populated_extents().value();
  ask({{0, kPage, 62 * kPage}, {0, kPage, 63 * kPage}});
  hear<tcp::ReplyHeader>();
  EXPECT_EQ(hear<tcp::ReplyRun>().kind, static_cast<uint16_t>(tcp::RunKind::kData));
  std::vector<std::byte> page(kPage);
  must(read_exactly(*peer_, page, kPatienceMs));
  EXPECT_TRUE(images_[0].matches(62, page.data()));
  hear<tcp::ReplyHeader>();
  EXPECT_EQ(hear<tcp::ReplyRun>().kind, static_cast<uint16_t>(tcp::RunKind::kZero));
  EXPECT_EQ(regions_[0].populated_extents().value(), before);
}

TEST_F(PageServerLane, RefusesAnotherRegion) {
  expect_refusal({1, kPage, 0});
}
TEST_F(PageServerLane, RefusesWhatIsPastTheEnd) {
  expect_refusal({0, kPage, 2048 * kPage});
}
TEST_F(PageServerLane, RefusesWhatReachesPastTheEnd) {
  expect_refusal({0, 2 * kPage, 2047 * kPage});
}
TEST_F(PageServerLane, RefusesAnOffsetThatWrapsAround) {
  expect_refusal({0, 2 * kPage, ~uint64_t{0} - kPage + 1});
}
TEST_F(PageServerLane, RefusesAnEmptyRange) {
  expect_refusal({0, 0, 0});
}
TEST_F(PageServerLane, RefusesMoreThanFourMebibytes) {
  expect_refusal({0, tcp::kMaxRangeLength + kPage, 0});
}
TEST_F(PageServerLane, RefusesHalfPages) {
  expect_refusal({0, kPage / 2, 0});
}
TEST_F(PageServerLane, RefusesUnalignedOffsets) {
  expect_refusal({0, kPage, 12});
}

TEST_F(PageServerLane, HangsUpOnAWrongMagicNumber) {
  tcp::RequestHeader header{tcp::kReplyMagic, 1};
  must(write_exactly(*peer_, std::as_bytes(std::span(&header, 1)), kPatienceMs));
  EXPECT_THAT(how_it_ended(), HasSubstr("makes no sense"));
}

TEST_F(PageServerLane, HangsUpOnTooManyRanges) {
  tcp::RequestHeader header{tcp::kRequestMagic, tcp::kMaxRangesPerRequest + 1};
  must(write_exactly(*peer_, std::as_bytes(std::span(&header, 1)), kPatienceMs));
  EXPECT_THAT(how_it_ended(), HasSubstr("makes no sense"));
}

TEST_F(PageServerLane, HangsUpOnNoRanges) {
  ask({});
  EXPECT_THAT(how_it_ended(), HasSubstr("makes no sense"));
}

TEST_F(PageServerLane, TellsWhenThePeerGoes) {
  peer_.reset();
  EXPECT_THAT(how_it_ended(), HasSubstr("closed"));
}

// The destructor joins: these tests end, or the server does not stop.
TEST_F(PageServerLane, StopsWhileItWaitsForARequest) {
  server_.reset();
}

TEST_F(PageServerLane, StopsInTheMiddleOfARequest) {
  tcp::RequestHeader header{tcp::kRequestMagic, 3};
  must(write_exactly(*peer_, std::as_bytes(std::span(&header, 1)), kPatienceMs));
  server_.reset();
}

TEST_F(PageServerLane, StopsWhileThePeerDoesNotRead) {
  ask({{0, 1024 * kPage, 0}, {0, 1024 * kPage, 0}});
  hear<tcp::ReplyHeader>();  // it is answering
  server_.reset();
}

TEST_F(PageServerLane, StopsWhileThePeerAsksAndReadsAsFastAsItCan) {
  auto second = must(make_plain_stream(UniqueFd(::dup(peer_->fd()))));
  std::thread asker([&] {
    std::vector<tcp::RequestRange> ranges(tcp::kMaxRangesPerRequest, {0, kPage, 0});
    tcp::RequestHeader header{tcp::kRequestMagic, static_cast<uint32_t>(ranges.size())};
    while (write_exactly(*second, std::as_bytes(std::span(&header, 1)), kPatienceMs).ok() &&
           write_exactly(*second, std::as_bytes(std::span(ranges)), kPatienceMs).ok()) {
    }
  });
  std::promise<void> answered;
  std::thread reader([&] {
    std::vector<std::byte> sink(1 << 20);
    bool first = true;
    while (read_exactly(*peer_, sink, kPatienceMs).ok()) {
      if (std::exchange(first, false)) answered.set_value();
    }
  });
  answered.get_future().wait();
  server_.reset();
  asker.join();
  reader.join();
}

TEST_F(PageServerLane, CountsWhatItServes) {
  ask({{0, 64 * kPage, 0}});
  hear<tcp::ReplyHeader>();
  EXPECT_EQ(counters_.bytes_sent, 48U * kPage);
  EXPECT_EQ(counters_.zero_pages, 16U);
}

}  // namespace
}  // namespace vmhop

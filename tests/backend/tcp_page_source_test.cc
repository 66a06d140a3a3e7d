#include "backend/tcp/tcp_page_source.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/base/ram_file.h"
#include "tests/backend/page_source_conformance.h"
#include "tests/backend/source_host.h"
#include "tests/session/tcp_pair.h"

namespace vmhop {
namespace {

using namespace testing_support;
using testing::HasSubstr;

SourceImplementation over(std::string name, SourceHost::Wire wire) {
  return {std::move(name), [wire](const std::vector<MemoryImage>& images) {
            return std::make_unique<SourceHost>(images, wire);
          }};
}

// As for files that cannot be written to.
class HostWithoutFiles final : public SourceUnderTest {
 public:
  explicit HostWithoutFiles(const std::vector<MemoryImage>& images) : host_(images) {}
  std::unique_ptr<PageSource> connect() override { return host_.connect(); }
  void disconnect() override { host_.disconnect(); }

 private:
  SourceHost host_;
};
const SourceImplementation kIntoTargets{"PlainIntoTargets",
                                        [](const std::vector<MemoryImage>& images) {
                                          return std::make_unique<HostWithoutFiles>(images);
                                        }};

auto name_of = [](const auto& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(Tcp, PageSourceConformance,
                         testing::Values(over("Plain", SourceHost::Wire::kPlain),
                                         over("Tls", SourceHost::Wire::kTls), kIntoTargets),
                         name_of);

// A page source whose peer says exactly what the test wants.
class TcpPageSourceTalk : public testing::Test {
 protected:
  static constexpr std::byte kUntouched{0xee};
  static constexpr uint64_t kTargetPages = 4;

  static constexpr uint32_t kRegionWithFile = 2;

  TcpPageSourceTalk()
      : memory_((kTargetPages + 2) * kPage, kUntouched),
        file_(must(create_memfd("region", kTargetPages * kPage))) {
    auto [left, right] = must(socket_pair(SOCK_STREAM));
    peer_ = std::move(left);
    source_ = std::make_unique<TcpPageSource>(
        must(make_plain_stream(std::move(right))),
        std::vector<TcpPageSource::Region>{{kPage}, {2 * kPage}, {kPage, file_.get()}});
  }

  std::byte* target() { return memory_.data() + kPage; }
  void post(uint64_t first_page, uint64_t pages, uint32_t region = 0) {
    PageRead read{{region, first_page * kPage, pages * kPage}, target() + first_page * kPage};
    must(source_->post(std::span(&read, 1)));
  }
  void say(const void* bytes, size_t size) {
    must(write_all(peer_.get(), {static_cast<const std::byte*>(bytes), size}));
  }
  void say_runs(std::vector<tcp::ReplyRun> runs) {
    tcp::ReplyHeader header{tcp::kReplyMagic, static_cast<uint32_t>(runs.size())};
    std::vector<std::byte> message(sizeof header + runs.size() * sizeof(tcp::ReplyRun));
    std::memcpy(message.data(), &header, sizeof header);
    std::memcpy(message.data() + sizeof header, runs.data(), runs.size() * sizeof(tcp::ReplyRun));
    say(message.data(), message.size());
  }
  void say_data(size_t size, uint8_t value) {
    std::vector<uint8_t> bytes(size, value);
    say(bytes.data(), size);
  }
  // What is in the file, a number for each page: that of its bytes if they are alike, else -1.
  std::vector<int> file_pages() const {
    std::vector<int> pages;
    std::vector<uint8_t> page(kPage);
    for (uint64_t n = 0; n < kTargetPages; ++n) {
      EXPECT_EQ(::pread(file_.get(), page.data(), kPage, static_cast<off_t>(n * kPage)), kPage);
      bool alike = std::ranges::all_of(page, [&page](uint8_t byte) { return byte == page[0]; });
      pages.push_back(alike ? page[0] : -1);
    }
    return pages;
  }
  std::vector<PageArrival> arrivals() {
    std::vector<PageArrival> all(16);
    all.resize(must(source_->poll(all)));
    return all;
  }
  std::string failure() {
    std::vector<PageArrival> all(16);
    auto count = source_->poll(all);
    return count ? "no error" : count.error().message();
  }
  bool guards_hold() const {
    auto untouched = [](std::byte b) { return b == kUntouched; };
    return std::all_of(memory_.begin(), memory_.begin() + kPage, untouched) &&
           std::all_of(memory_.end() - kPage, memory_.end(), untouched);
  }

  static tcp::ReplyRun data(uint32_t length) {
    return {length, static_cast<uint16_t>(tcp::RunKind::kData), 0};
  }
  static tcp::ReplyRun zero(uint32_t length) {
    return {length, static_cast<uint16_t>(tcp::RunKind::kZero), 0};
  }

  std::vector<std::byte> memory_;
  UniqueFd file_;
  UniqueFd peer_;
  std::unique_ptr<TcpPageSource> source_;
};

TEST_F(TcpPageSourceTalk, UnderstandsManyRunsInTheAnswerToItsOnlyRead) {
  post(0, 4);
  say_runs({zero(kPage), data(kPage), zero(kPage), data(kPage)});
  say_data(2 * kPage, 7);
  EXPECT_EQ(arrivals().size(), 4U);
  EXPECT_EQ(target()[0], kUntouched);
  EXPECT_EQ(target()[kPage], std::byte{7});
  EXPECT_EQ(target()[2 * kPage], kUntouched);
  EXPECT_EQ(target()[4 * kPage - 1], std::byte{7});
  EXPECT_TRUE(guards_hold());
}

TEST_F(TcpPageSourceTalk, KnowsThePagesOfARegionByTheirSize) {
  post(0, 4, 1);
  say_runs({data(4 * kPage)});
  say_data(kPage, 7);
  EXPECT_TRUE(arrivals().empty()) << "half a page";
  say_data(kPage, 7);
  auto whole = arrivals();
  ASSERT_EQ(whole.size(), 1U);
  EXPECT_EQ(whole[0].range, (PageRange{1, 0, 2 * kPage}));
  say_data(2 * kPage, 7);
  EXPECT_EQ(arrivals().size(), 1U);
  post(0, 4, 1);
  say_runs({data(kPage), zero(3 * kPage)});
  EXPECT_EQ(failure(), "the source's answer on a page connection makes no sense: length of a run");
}

TEST_F(TcpPageSourceTalk, RefusesARegionThatThereIsNot) {
  PageRead read{{3, 0, kPage}, target()};
  EXPECT_FALSE(source_->post(std::span(&read, 1)).ok());
}

TEST_F(TcpPageSourceTalk, ReportsEachPageAsSoonAsItIsWhole) {
  post(0, 3);
  say_runs({data(3 * kPage)});
  say_data(kPage - 1, 7);
  EXPECT_TRUE(arrivals().empty());
  say_data(1, 7);
  EXPECT_THAT(arrivals(), testing::SizeIs(1));
  say_data(kPage + 5, 7);
  auto second = arrivals();
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].range, (PageRange{0, kPage, kPage}));
  say_data(kPage - 5, 7);
  EXPECT_THAT(arrivals(), testing::SizeIs(1));
  EXPECT_TRUE(guards_hold());
}

TEST_F(TcpPageSourceTalk, TakesAnswersInPiecesOfAnySize) {
  post(0, 1);
  post(1, 2);
  std::vector<std::byte> talk;
  auto add = [&talk](const void* bytes, size_t size) {
    const auto* first = static_cast<const std::byte*>(bytes);
    talk.insert(talk.end(), first, first + size);
  };
  tcp::ReplyHeader one{tcp::kReplyMagic, 1};
  tcp::ReplyHeader two{tcp::kReplyMagic, 2};
  tcp::ReplyRun page_run = data(kPage);
  tcp::ReplyRun zero_run = zero(kPage);
  std::vector<uint8_t> page(kPage, 7);
  add(&one, sizeof one);
  add(&page_run, sizeof page_run);
  add(page.data(), kPage);
  add(&two, sizeof two);
  add(&page_run, sizeof page_run);
  add(&zero_run, sizeof zero_run);
  add(page.data(), kPage);
  size_t came = 0;
  Random random(5);
  for (size_t said = 0; said < talk.size();) {
    size_t piece = std::min(talk.size() - said, 1 + random.below(23));
    say(talk.data() + said, piece);
    said += piece;
    came += arrivals().size();
  }
  EXPECT_EQ(came, 3U);
  EXPECT_EQ(std::count(target(), target() + 4 * kPage, std::byte{7}), 2 * kPage);
  EXPECT_TRUE(guards_hold());
}

TEST_F(TcpPageSourceTalk, WritesWholePagesToTheFileAsTheyCome) {
  post(0, 4, kRegionWithFile);
  say_runs({data(2 * kPage), zero(kPage), data(kPage)});
  say_data(kPage - 1, 7);
  EXPECT_TRUE(arrivals().empty());
  EXPECT_THAT(file_pages(), testing::ElementsAre(0, 0, 0, 0));
  say_data(2, 7);
  auto first = arrivals();
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].range, (PageRange{kRegionWithFile, 0, kPage}));
  EXPECT_THAT(file_pages(), testing::ElementsAre(7, 0, 0, 0));
  say_data(kPage - 1, 7);
  say_data(kPage, 9);
  EXPECT_EQ(arrivals().size(), 3U);
  EXPECT_THAT(file_pages(), testing::ElementsAre(7, 7, 0, 9));
  post(2, 1, kRegionWithFile);
  say_runs({data(kPage)});
  say_data(kPage, 5);
  EXPECT_EQ(arrivals().size(), 1U) << "one page alone, head and data at once";
  EXPECT_THAT(file_pages(), testing::ElementsAre(7, 7, 5, 9));
  EXPECT_TRUE(std::ranges::all_of(memory_, [](std::byte b) { return b == kUntouched; }))
      << "not into the targets";
}

TEST_F(TcpPageSourceTalk, WritesToTheFileWhatComesInPiecesOfAnySize) {
  Random random(6);
  for (uint8_t value = 1; value < 20; ++value) {
    post(1, 1, kRegionWithFile);
    post(2, 2, kRegionWithFile);
    std::vector<uint8_t> talk;
    for (uint32_t pages : {1U, 2U}) {
      tcp::ReplyHeader header{tcp::kReplyMagic, 1};
      tcp::ReplyRun run = data(pages * kPage);
      const auto* head = reinterpret_cast<const uint8_t*>(&header);
      const auto* body = reinterpret_cast<const uint8_t*>(&run);
      talk.insert(talk.end(), head, head + sizeof header);
      talk.insert(talk.end(), body, body + sizeof run);
      talk.insert(talk.end(), pages * kPage, value);
    }
    uint64_t came = 0;
    for (size_t said = 0; said < talk.size();) {
      size_t piece = std::min(talk.size() - said, 1 + random.below(3000));
      say(talk.data() + said, piece);
      said += piece;
      for (const PageArrival& arrival : arrivals())
        came += arrival.range.length;
    }
    EXPECT_EQ(came, 3 * kPage);
    EXPECT_THAT(file_pages(), testing::ElementsAre(0, value, value, value));
  }
}

TEST(TcpPageSource, LeavesHolesUnpopulatedBesideWhatItWrites) {
  UniqueFd file = must(create_ram_file("region", kTransparentHugePage));
  Mapping alias = must(Mapping::map_shared(file.get(), kTransparentHugePage, Access::kReadWrite));
  auto [peer, socket] = must(socket_pair(SOCK_STREAM));
  TcpPageSource source(must(make_plain_stream(std::move(socket))), {{kPage, file.get()}});
  constexpr uint64_t kFirst = 3;
  PageRead read{{0, kFirst * kPage, 2 * kPage}, alias.data() + kFirst * kPage, true};
  must(source.post(std::span(&read, 1)));
  tcp::ReplyHeader header{tcp::kReplyMagic, 1};
  tcp::ReplyRun run{2 * kPage, static_cast<uint16_t>(tcp::RunKind::kData), 0};
  std::vector<std::byte> pages(2 * kPage, std::byte{5});
  for (std::span<const std::byte> part :
       {std::as_bytes(std::span(&header, 1)), std::as_bytes(std::span(&run, 1)),
        std::span<const std::byte>(pages)})
    must(write_all(peer.get(), part));
  std::array<PageArrival, 4> arrivals;
  EXPECT_EQ(must(source.poll(arrivals)), 1U);
  struct stat info {};
  ASSERT_EQ(::fstat(file.get(), &info), 0);
  EXPECT_EQ(static_cast<uint64_t>(info.st_blocks) * 512, 2 * kPage);
}

TEST_F(TcpPageSourceTalk, DoesNotWaitWhileItHasArrivalsToTell) {
  post(0, 2);
  say_runs({data(kPage), zero(kPage)});
  say_data(kPage, 7);
  std::array<PageArrival, 1> one;
  for (bool last : {false, true}) {
    EXPECT_EQ(must(source_->poll(one)), 1U);
    EXPECT_EQ(must(source_->may_wait()), last);
  }
}

// Or it would be woken for each segment of a long run.
TEST(TcpPageSource, IsWokenForManyPagesAtOnceOnABulkLane) {
  UniqueFd file = must(create_memfd("region", 64 * kPage));
  Mapping alias = must(Mapping::map_shared(file.get(), 64 * kPage, Access::kReadWrite));
  auto [socket, peer] = tcp_pair();
  TcpPageSource source(must(make_plain_stream(std::move(socket))), {{kPage, file.get()}});
  PageRead read{{0, 0, 48 * kPage}, alias.data(), true};
  must(source.post(std::span(&read, 1)));
  tcp::ReplyHeader header{tcp::kReplyMagic, 1};
  tcp::ReplyRun run{48 * kPage, static_cast<uint16_t>(tcp::RunKind::kData), 0};
  std::vector<std::byte> pages(48 * kPage, std::byte{5});
  must(write_all(peer.get(), std::as_bytes(std::span(&header, 1))));
  must(write_all(peer.get(), std::as_bytes(std::span(&run, 1))));
  uint64_t there = 0;
  std::array<PageArrival, 4> arrivals;
  auto take = [&] {  // until there is nothing to take
    size_t count = 0;
    do {
      count = must(source.poll(arrivals));
      for (size_t i = 0; i < count; ++i)
        there += arrivals[i].range.length;
    } while (count == arrivals.size());
    ASSERT_TRUE(must(source.may_wait()));
  };
  ASSERT_EQ(must(wait_fd(source.wait_fd(), POLLIN, 5000)), POLLIN);
  ASSERT_NO_FATAL_FAILURE(take());
  must(write_all(peer.get(), std::span(pages).first(kPage)));
  EXPECT_EQ(must(wait_fd(source.wait_fd(), POLLIN, 50)), 0);
  must(write_all(peer.get(), std::span(pages).subspan(kPage)));
  while (there < pages.size()) {
    ASSERT_EQ(must(wait_fd(source.wait_fd(), POLLIN, 5000)), POLLIN);
    ASSERT_NO_FATAL_FAILURE(take());
  }
}

TEST_F(TcpPageSourceTalk, SaysThatTheMemoryCannotBeWritten) {
  ASSERT_EQ(::fcntl(file_.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  post(0, 1, kRegionWithFile);
  say_runs({data(kPage)});
  say_data(kPage, 7);
  EXPECT_EQ(failure(), "writing to the VM's memory: Operation not permitted");
}

TEST_F(TcpPageSourceTalk, SaysWhatItWantsWithoutWaitingForAFullSocket) {
  // More requests than a socket takes at once.
  std::vector<PageRead> reads(40'000, PageRead{{0, 0, kPage}, target()});
  ASSERT_TRUE(source_->post(reads).ok());
  EXPECT_EQ(source_->wait_events() & POLLOUT, POLLOUT);
  size_t heard = 0;
  std::vector<std::byte> buffer(1 << 16);
  size_t all = reads.size() * sizeof(tcp::RequestRange) +
               (reads.size() + 255) / 256 * sizeof(tcp::RequestHeader);
  while (heard < all) {
    ssize_t got = ::read(peer_.get(), buffer.data(), buffer.size());
    ASSERT_GT(got, 0);
    heard += static_cast<size_t>(got);
    EXPECT_TRUE(arrivals().empty());
  }
  EXPECT_EQ(source_->wait_events(), POLLIN);
}

TEST_F(TcpPageSourceTalk, RefusesAWrongMagicNumber) {
  post(0, 2);
  tcp::ReplyHeader header{tcp::kRequestMagic, 1};
  tcp::ReplyRun run = data(2 * kPage);
  say(&header, sizeof header);
  say(&run, sizeof run);
  EXPECT_THAT(failure(), HasSubstr("magic"));
}

TEST_F(TcpPageSourceTalk, RefusesTooManyRuns) {
  post(0, 2);
  say_runs(std::vector<tcp::ReplyRun>(tcp::kMaxRunsPerReply + 1, data(kPage)));
  EXPECT_THAT(failure(), HasSubstr("number of runs"));
}

TEST_F(TcpPageSourceTalk, RefusesAnAnswerWithoutRuns) {
  post(0, 2);
  tcp::ReplyHeader header{tcp::kReplyMagic, 0};
  tcp::ReplyRun run = data(2 * kPage);
  say(&header, sizeof header);
  say(&run, sizeof run);
  EXPECT_THAT(failure(), HasSubstr("number of runs"));
}

struct BadRuns {
  std::string name;
  std::vector<tcp::ReplyRun> runs;
  std::string complaint;
};

void PrintTo(const BadRuns& param, std::ostream* out) {
  *out << param.name;
}

class TcpPageSourceHostile : public TcpPageSourceTalk,
                             public testing::WithParamInterface<BadRuns> {};

TEST_P(TcpPageSourceHostile, IsAnErrorAndWritesNothingOutsideTheTarget) {
  post(0, kTargetPages);
  say_runs(GetParam().runs);
  say_data(8 * kPage, 7);
  EXPECT_THAT(failure(), HasSubstr(GetParam().complaint));
  EXPECT_TRUE(guards_hold());
}

constexpr uint16_t kDataKind = static_cast<uint16_t>(tcp::RunKind::kData);
INSTANTIATE_TEST_SUITE_P(
    Runs, TcpPageSourceHostile,
    testing::Values(
        BadRuns{"TooShort", {{kPage, kDataKind, 0}}, "add up"},
        BadRuns{"TooLong", {{5 * kPage, kDataKind, 0}}, "add up"},
        BadRuns{"TooLongTogether", {{3 * kPage, kDataKind, 0}, {2 * kPage, 2, 0}}, "add up"},
        BadRuns{"HugeTogether", std::vector<tcp::ReplyRun>(512, {0xfffff000, kDataKind, 0}), "add"},
        BadRuns{"UnknownKind", {{4 * kPage, 3, 0}}, "unknown kind"},
        BadRuns{"NoKind", {{4 * kPage, 0, 0}}, "unknown kind"},
        BadRuns{"Empty", {{4 * kPage, kDataKind, 0}, {0, kDataKind, 0}}, "length"},
        BadRuns{"HalfAPage", {{kPage / 2, kDataKind, 0}, {kPage / 2, kDataKind, 0}}, "length"},
        BadRuns{"ReservedUsed", {{4 * kPage, kDataKind, 1}}, "length"}),
    name_of);

TEST_F(TcpPageSourceTalk, RefusesMoreBytesThanItAskedFor) {
  post(0, 1);
  say_runs({data(kPage)});
  say_data(2 * kPage, 7);
  EXPECT_THAT(failure(), HasSubstr("makes no sense"));
  EXPECT_TRUE(guards_hold());
  EXPECT_EQ(target()[kPage], kUntouched);
}

TEST_F(TcpPageSourceTalk, RefusesDataBehindAZeroPage) {
  post(0, 1);
  say_runs({zero(kPage)});
  say_data(16, 7);
  EXPECT_THAT(failure(), HasSubstr("makes no sense"));
  EXPECT_TRUE(guards_hold());
}

TEST_F(TcpPageSourceTalk, RefusesAnswersToNothing) {
  say_runs({data(kPage)});
  EXPECT_THAT(failure(), HasSubstr("nothing was asked for"));
}

TEST_F(TcpPageSourceTalk, FailsWhenThePeerGoesInTheMiddleOfAPage) {
  post(0, 1);
  say_runs({data(kPage)});
  say_data(100, 7);
  EXPECT_TRUE(arrivals().empty());
  peer_.reset();
  std::vector<PageArrival> all(16);
  auto count = source_->poll(all);
  ASSERT_FALSE(count.ok());
  EXPECT_EQ(count.error().kind(), ErrorKind::kClosed);
}

}  // namespace
}  // namespace vmhop

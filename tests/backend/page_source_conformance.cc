#include "tests/backend/page_source_conformance.h"

#include <algorithm>
#include <array>
#include <set>

namespace vmhop::testing_support {
namespace {

constexpr std::byte kUntouched{0xee};
// Past the 4 MiB of the longest read.
constexpr uint64_t kPages = 1200;

}  // namespace

PageSourceConformance::PageSourceConformance() {
  std::vector<int> memfds;
  images_.emplace_back(kPages, 1, mixed);
  images_.emplace_back(300, 2, all_data);
  images_.emplace_back(64, 3, all_holes);
  for (const MemoryImage& image : images_) {
    exported_.push_back(image.exported());
    files_.push_back(must(create_memfd("target", image.info().size)));
    memfds.push_back(files_.back().get());
    targets_.push_back(
        must(Mapping::map_shared(files_.back().get(), image.info().size, Access::kReadWrite)));
    std::ranges::fill(targets_.back().bytes(), kUntouched);
  }
  host_ = GetParam().make(images_);
  host_->write_to(memfds);
}

PageRead PageSourceConformance::read_of(uint32_t region, uint64_t first_page, uint64_t pages) {
  PageRange range{region, first_page * kPage, pages * kPage};
  return {range, targets_[region].data() + range.offset};
}

Status PageSourceConformance::finish(PageSource& source, const std::vector<PageRead>& reads) {
  using Page = std::pair<uint32_t, uint64_t>;
  std::set<Page> missing;
  for (const PageRead& read : reads) {
    for (uint64_t offset = 0; offset < read.range.length; offset += kPage)
      missing.emplace(read.range.region, (read.range.offset + offset) / kPage);
  }
  while (!missing.empty()) {
    std::array<PageArrival, 8> arrivals;
    VMHOP_ASSIGN(size_t count, source.poll(arrivals));
    for (const PageArrival& arrival : std::span(arrivals).first(count)) {
      if (arrival.range.length == 0) return Error("an empty arrival");
      auto holds_it = [&arrival](const PageRead& read) {
        return read.range.region == arrival.range.region &&
               read.range.offset <= arrival.range.offset &&
               arrival.range.offset + arrival.range.length <= read.range.offset + read.range.length;
      };
      if (std::ranges::none_of(reads, holds_it)) return Error("an arrival spans two reads");
      for (uint64_t offset = 0; offset < arrival.range.length; offset += kPage) {
        uint64_t page = (arrival.range.offset + offset) / kPage;
        if (missing.erase({arrival.range.region, page}) != 1) {
          return errorf("page {} arrived twice or was not asked for", page);
        }
        bool has_data = images_[arrival.range.region].kind(page) == PageKind::kData;
        bool may_differ = !has_data && !GetParam().sees_zeros;
        if (has_data != (arrival.content == Content::kData) && !may_differ) {
          return errorf("page {} arrived with the wrong content", page);
        }
      }
    }
    if (count == 0 && !wait_for(source)) return Error("nothing came");
  }
  return ok_status();
}

Status PageSourceConformance::read(PageSource& source, const std::vector<PageRead>& reads) {
  VMHOP_TRY(source.post(reads));
  return finish(source, reads);
}

void PageSourceConformance::expect_target(const std::vector<PageRead>& reads) {
  for (uint32_t region = 0; region < images_.size(); ++region) {
    for (uint64_t page = 0; page < images_[region].pages(); ++page) {
      bool was_read = std::any_of(reads.begin(), reads.end(), [&](const PageRead& read) {
        uint64_t offset = page * kPage;
        return read.range.region == region && read.range.offset <= offset &&
               offset < read.range.offset + read.range.length;
      });
      const std::byte* bytes = targets_[region].data() + page * kPage;
      if (was_read && images_[region].kind(page) == PageKind::kData) {
        ASSERT_TRUE(images_[region].matches(page, bytes)) << "page " << page << " is wrong";
      } else {
        auto is_all = [bytes](std::byte value) {
          return std::all_of(bytes, bytes + kPage, [value](std::byte b) { return b == value; });
        };
        bool may_be_zeros = was_read && !GetParam().sees_zeros;
        ASSERT_TRUE(is_all(kUntouched) || (may_be_zeros && is_all(std::byte{0})))
            << "page " << page << " was written";
      }
    }
  }
}

TEST_P(PageSourceConformance, BringsEveryByteOfRangesFromOnePageToFourMebibytes) {
  auto source = host_->connect();
  std::vector<PageRead> all;
  for (uint64_t pages : {1, 2, 3, 16, 63, 64, 65, 256, 1024}) {
    for (uint64_t first : {uint64_t{0}, uint64_t{31}, kPages - pages}) {
      if (first + pages > kPages) continue;
      std::vector<PageRead> reads{read_of(0, first, pages)};
      Status done = read(*source, reads);
      ASSERT_TRUE(done.ok()) << pages << " pages from " << first << ": " << done.error().message();
      all.push_back(reads.front());
    }
  }
  expect_target(all);
}

TEST_P(PageSourceConformance, ReportsHolesAsZerosAndLeavesThemUnpopulated) {
  auto source = host_->connect();
  auto before = exported_[0].populated_extents().value();
  std::vector<PageRead> reads{read_of(2, 0, 64), read_of(0, 0, 600)};
  Status done = read(*source, reads);
  ASSERT_TRUE(done.ok()) << done.error().message();
  expect_target(reads);
  EXPECT_TRUE(exported_[2].populated_extents().value().empty());
  EXPECT_EQ(exported_[0].populated_extents().value(), before);
}

TEST_P(PageSourceConformance, TakesManyRangesOfSeveralRegionsInOnePost) {
  auto source = host_->connect();
  std::vector<PageRead> reads;
  for (uint64_t page = 0; page < 600; page += 2)
    reads.push_back(read_of(0, page, 1));
  for (uint64_t page = 0; page < 300; page += 3)
    reads.push_back(read_of(1, page, 2));
  Status done = read(*source, reads);
  ASSERT_TRUE(done.ok()) << done.error().message();
  expect_target(reads);
}

TEST_P(PageSourceConformance, AnswersReadsSideBySideEachByItself) {
  auto source = host_->connect();
  std::vector<PageRead> reads;
  for (uint64_t page = 0; page < 600; page += 4)
    reads.push_back(read_of(0, page, 4));
  Status done = read(*source, reads);
  ASSERT_TRUE(done.ok()) << done.error().message();
  expect_target(reads);
}

TEST_P(PageSourceConformance, TakesReadsWhileOthersAreUnderWay) {
  auto source = host_->connect();
  std::vector<PageRead> reads;
  for (uint64_t i = 0; i < 18; ++i) {
    std::vector<PageRead> next{read_of(0, i * 64, 64), read_of(1, i * 16, 1)};
    Status posted = source->post(next);
    ASSERT_TRUE(posted.ok()) << posted.error().message();
    reads.insert(reads.end(), next.begin(), next.end());
  }
  Status done = finish(*source, reads);
  ASSERT_TRUE(done.ok()) << done.error().message();
  expect_target(reads);
}

TEST_P(PageSourceConformance, IsOneOfManyThatWorkSideBySide) {
  std::vector<std::unique_ptr<PageSource>> sources;
  std::vector<PageRead> reads;
  for (uint64_t i = 0; i < 4; ++i) {
    sources.push_back(host_->connect());
    reads.push_back(read_of(0, i * 256, 256));
    ASSERT_TRUE(sources[i]->post(std::span(&reads[i], 1)).ok());
  }
  for (uint64_t i = 0; i < 4; ++i) {
    Status done = finish(*sources[i], {reads[i]});
    ASSERT_TRUE(done.ok()) << done.error().message();
  }
  expect_target(reads);
}

TEST_P(PageSourceConformance, HasNothingToSayWhenNothingWasAsked) {
  auto source = host_->connect();
  std::array<PageArrival, 4> arrivals;
  auto count = source->poll(arrivals);
  ASSERT_TRUE(count.ok()) << count.error().message();
  EXPECT_EQ(*count, 0U);
}

TEST_P(PageSourceConformance, RefusesPagesThatTheSourceDoesNotHave) {
  for (PageRange range : {PageRange{0, kPages * kPage, kPage}, PageRange{7, 0, kPage},
                          PageRange{1, 299 * kPage, 2 * kPage}, PageRange{0, 100, kPage}}) {
    auto source = host_->connect();
    std::vector<std::byte> target(range.length, kUntouched);
    PageRead read{range, target.data()};
    Status done = source->post(std::span(&read, 1));
    if (done) done = finish(*source, {read});
    ASSERT_FALSE(done.ok()) << "region " << range.region << " offset " << range.offset;
    EXPECT_EQ(done.error().kind(), ErrorKind::kRefused) << done.error().message();
  }
  expect_target({});
}

TEST_P(PageSourceConformance, FailsWhenTheOtherEndGoesWhileItIsIdle) {
  auto source = host_->connect();
  host_->disconnect();
  ASSERT_TRUE(wait_for(*source));
  std::array<PageArrival, 4> arrivals;
  EXPECT_FALSE(source->poll(arrivals).ok());
}

TEST_P(PageSourceConformance, FailsWhenTheOtherEndGoesWithReadsInFlight) {
  auto source = host_->connect();
  std::vector<PageRead> reads{read_of(0, 0, 1024), read_of(1, 0, 300)};
  ASSERT_TRUE(source->post(reads).ok());
  host_->disconnect();
  // What was on its way may arrive; then the error does, and stays.
  std::array<PageArrival, 8> arrivals;
  auto count = source->poll(arrivals);
  while (count.ok()) {
    ASSERT_TRUE(*count > 0 || wait_for(*source));
    count = source->poll(arrivals);
  }
  EXPECT_FALSE(source->poll(arrivals).ok());
}

TEST_P(PageSourceConformance, WritesNothingOnceItIsDestroyed) {
  auto source = host_->connect();
  ASSERT_TRUE(source->post(std::vector{read_of(1, 0, 300)}).ok());
  source.reset();
  std::ranges::fill(targets_[1].bytes(), kUntouched);
  host_->disconnect();
  expect_target({});
}

}  // namespace vmhop::testing_support

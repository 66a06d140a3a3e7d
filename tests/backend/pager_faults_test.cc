// The pager over page sources that fail, stall, split and reorder.
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <string>
#include <thread>

#include "tests/backend/fault_injection.h"
#include "tests/backend/pager_run.h"
#include "tests/backend/source_host.h"

namespace vmhop {
namespace {

using namespace testing_support;

struct Trouble {
  std::string name;
  // What becomes of the n-th page source of a lane.
  std::function<FaultScript(int lane, uint64_t n)> script;
  size_t losses_at_least = 0;
};

void PrintTo(const Trouble& param, std::ostream* out) {
  *out << param.name;
}

class PagerInTrouble : public testing::TestWithParam<Trouble> {
 protected:
  void SetUp() override {
    if (auto why = ToyVmm::unavailable(); !why.empty()) GTEST_SKIP() << why;
    images_.emplace_back(768, 1, mixed);
    images_.emplace_back(256, 2, mixed);
    host_ = std::make_unique<SourceHost>(images_);
    vmm_ = std::make_unique<ToyVmm>(images_);
    host_->write_to(vmm_->memfds());
  }

  std::vector<MemoryImage> images_;
  std::unique_ptr<SourceHost> host_;
  std::unique_ptr<ToyVmm> vmm_;
};

TEST_P(PagerInTrouble, BringsEveryByteHomeWhileTheGuestReadsAndWrites) {
  std::array<uint64_t, 3> made{};
  PagerRun run(*vmm_, 2, [&](int lane) {
    uint64_t n = made[static_cast<size_t>(lane + 1)]++;
    return std::make_unique<FaultInjectingSource>(host_->connect(), GetParam().script(lane, n));
  });
  vmm_->start_guest(4, 1500, 7);
  run.attach_all();
  run.give_final_layout(host_->regions());
  ASSERT_TRUE(run.drain()) << run.broken();
  auto counts = vmm_->counts();
  EXPECT_EQ(counts.absent + counts.reading + counts.filled, 0U);
  EXPECT_GE(run.losses(), GetParam().losses_at_least);
  vmm_->join_guest();
  EXPECT_EQ(vmm_->wrong_pages(), 0U) << vmm_->first_wrong();
}

// Later sources hold longer, so that every test ends.
std::optional<size_t> after(size_t first, uint64_t n) {
  return n < 12 ? std::optional(first + n) : std::nullopt;
}

auto name_of = [](const auto& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(
    Modes, PagerInTrouble,
    testing::Values(Trouble{"FirstPostFails",
                            [](int, uint64_t n) { return FaultScript{.posts = after(0, n)}; }, 1},
                    Trouble{"ThirdPostFails",
                            [](int, uint64_t n) { return FaultScript{.posts = after(2, n)}; }},
                    Trouble{"NothingEverArrives",
                            [](int, uint64_t n) { return FaultScript{.arrivals = after(0, n)}; },
                            1},
                    Trouble{"FewArrive",
                            [](int, uint64_t n) { return FaultScript{.arrivals = after(5, n)}; },
                            1},
                    Trouble{"ConnectionsEndInTheMiddleOfAPage",
                            [](int, uint64_t n) {
                              return FaultScript{.arrivals = after(3, n), .tears_page = true};
                            },
                            1},
                    Trouble{"FaultLaneEndsInTheMiddleOfAPage",
                            [](int lane, uint64_t n) {
                              if (lane != PagerRun::kFaultLane) return FaultScript{};
                              return FaultScript{.arrivals = after(1, n), .tears_page = true};
                            }},
                    Trouble{"PagesArriveOneByOneAndBackwards",
                            [](int, uint64_t) { return FaultScript{.splits_and_reorders = true}; }},
                    Trouble{"BackwardsAndTorn",
                            [](int, uint64_t n) {
                              return FaultScript{.arrivals = after(40, 10 * n),
                                                 .tears_page = true,
                                                 .splits_and_reorders = true};
                            },
                            1}),
    name_of);

// The decorator does what it says, or the tests above show nothing.
class FaultInjection : public testing::Test {
 protected:
  FaultInjection() : images_(make_images()), host_(images_), target_(images_[0].info().size) {}

  static std::vector<MemoryImage> make_images() {
    std::vector<MemoryImage> images;
    images.emplace_back(64, 1, all_data);
    return images;
  }
  FaultInjectingSource with(FaultScript script) { return {host_.connect(), std::move(script)}; }
  Status post(PageSource& source, uint64_t first, uint64_t pages) {
    PageRead read{{0, first * kPage, pages * kPage}, target_.data() + first * kPage};
    return source.post(std::span(&read, 1));
  }
  // The next arrivals, however long they take.
  static Result<std::vector<PageArrival>> next(PageSource& source) {
    std::vector<PageArrival> arrivals(64);
    for (;;) {
      VMHOP_ASSIGN(size_t count, source.poll(arrivals));
      arrivals.resize(count);
      if (count > 0 || !wait_for(source)) return arrivals;
      arrivals.resize(64);
    }
  }

  std::vector<MemoryImage> images_;
  SourceHost host_;
  std::vector<std::byte> target_;
};

TEST_F(FaultInjection, FailsAPost) {
  auto source = with({.posts = 1});
  EXPECT_TRUE(post(source, 0, 1).ok());
  EXPECT_FALSE(post(source, 1, 1).ok());
  EXPECT_FALSE(next(source).ok());
}

TEST_F(FaultInjection, FailsAfterArrivals) {
  auto source = with({.arrivals = 2, .splits_and_reorders = true});
  ASSERT_TRUE(post(source, 0, 8).ok());
  size_t came = 0;
  auto some = next(source);
  for (; some.ok(); some = next(source))
    came += some->size();
  EXPECT_EQ(came, 2U);
}

TEST_F(FaultInjection, TearsAPageThatWasNotReported) {
  auto source = with({.arrivals = 0, .tears_page = true});
  ASSERT_TRUE(post(source, 3, 1).ok());
  EXPECT_FALSE(next(source).ok());
  EXPECT_FALSE(images_[0].matches(3, target_.data() + 3 * kPage));
  EXPECT_EQ(target_[4 * kPage - 1], std::byte{0xbd});
}

TEST_F(FaultInjection, HoldsArrivalsUntilItsGateOpens) {
  auto gate = std::make_shared<Gate>(false);
  auto source = with({.gate = gate});
  ASSERT_TRUE(post(source, 0, 4).ok());
  while (gate->held() == 0) {
    std::vector<PageArrival> none(8);
    EXPECT_EQ(must(source.poll(none)), 0U);
  }
  std::thread opener([&] { gate->open(); });
  EXPECT_FALSE(must(next(source)).empty());
  opener.join();
}

TEST_F(FaultInjection, FailsWhenItsGateSaysSo) {
  auto gate = std::make_shared<Gate>(false);
  auto source = with({.gate = gate});
  gate->fail();
  ASSERT_TRUE(wait_for(source));
  EXPECT_FALSE(next(source).ok());
}

}  // namespace
}  // namespace vmhop

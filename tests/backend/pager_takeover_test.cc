// A pager is killed at each transition of a page while the guest writes; the next one goes on with
// its descriptors and its page map.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "tests/backend/pager_run.h"
#include "tests/backend/source_host.h"
#include "tests/backend/toy_vmm.h"

namespace vmhop {
namespace {

using namespace testing_support;

struct Death {
  std::string moment;
  std::string lane;
  int nth;
};
const Death kNever{"never", "none", 0};

class PagerTakeover : public testing::Test {
 protected:
  void SetUp() override {
    if (auto why = ToyVmm::unavailable(); !why.empty()) GTEST_SKIP() << why;
    images_.emplace_back(2048, 1, mixed);
    images_.emplace_back(128, 2, all_data);
    host_ = std::make_unique<SourceHost>(images_);
    vmm_ = std::make_unique<ToyVmm>(images_);
    host_->write_to(vmm_->memfds());
  }
  void TearDown() override {
    if (pager_ > 0) ::kill(pager_, SIGKILL);
    (void)wait_for_pager();
  }

  enum class Bulk { kNo, kYes };
  void start_pager(const Death& death, Bulk bulk) {
    UniqueFd fault_lane = host_->connect_socket();
    UniqueFd bulk_lane = bulk == Bulk::kYes ? host_->connect_socket() : UniqueFd();
    std::vector<int> inherited{vmm_->page_map().fd(), fault_lane.get()};
    if (bulk_lane.valid()) inherited.push_back(bulk_lane.get());
    std::vector<std::string> words{VMHOP_TOY_PAGER, std::to_string(vmm_->page_map().fd()),
                                   std::to_string(fault_lane.get()),
                                   std::to_string(bulk_lane.get())};
    for (size_t i = 0; i < vmm_->region_count(); ++i) {
      inherited.push_back(vmm_->memfd(i));
      inherited.push_back(vmm_->userfault(i));
      for (uint64_t number :
           {static_cast<uint64_t>(vmm_->memfd(i)), static_cast<uint64_t>(vmm_->userfault(i)),
            vmm_->address(i), images_[i].info().size}) {
        words.push_back(std::to_string(number));
      }
      words.push_back(images_[i].info().id);
    }
    for (const std::string& word : {std::string("--"), death.moment, death.lane})
      words.push_back(word);
    words.push_back(std::to_string(death.nth));
    std::vector<char*> arguments;
    for (std::string& word : words)
      arguments.push_back(word.data());
    arguments.push_back(nullptr);

    pager_ = ::fork();
    ASSERT_GE(pager_, 0);
    if (pager_ > 0) return;
    for (int fd : inherited)
      ::fcntl(fd, F_SETFD, 0);
    ::execv(VMHOP_TOY_PAGER, arguments.data());
    ::_exit(127);
  }

  // "drained", "killed", or how else it ended.
  std::string wait_for_pager() {
    int status = 0;
    if (pager_ <= 0 || ::waitpid(std::exchange(pager_, 0), &status, 0) < 0) return "no pager";
    if (WIFSIGNALED(status)) {
      return WTERMSIG(status) == SIGKILL ? "killed" : fmt::format("signal {}", WTERMSIG(status));
    }
    return WEXITSTATUS(status) == 0 ? "drained" : fmt::format("exit {}", WEXITSTATUS(status));
  }

  uint64_t pages_in(PageState state) {
    uint64_t count = 0;
    for (size_t region = 0; region < vmm_->region_count(); ++region) {
      for (uint64_t page = 0; page < images_[region].pages(); ++page)
        count += vmm_->page_map().region(region).get(page) == state ? 1 : 0;
    }
    return count;
  }
  void expect_right_memory() { EXPECT_EQ(vmm_->wrong_pages(), 0U) << vmm_->first_wrong(); }

  std::vector<MemoryImage> images_;
  std::unique_ptr<SourceHost> host_;
  std::unique_ptr<ToyVmm> vmm_;
  pid_t pager_ = 0;
};

TEST_F(PagerTakeover, DrainsFromAProcessOfItsOwn) {
  vmm_->start_guest(3, 500, 1);
  start_pager(kNever, Bulk::kYes);
  EXPECT_EQ(wait_for_pager(), "drained");
  vmm_->join_guest();
  expect_right_memory();
}

class PagerKilled : public PagerTakeover,
                    public testing::WithParamInterface<std::tuple<std::string, std::string, int>> {
};

TEST_P(PagerKilled, LosesNoByteAndNoWriteOfTheGuest) {
  auto [moment, lane, nth] = GetParam();
  PageState left =
      moment == "filled" || moment == "continued" ? PageState::kFilled : PageState::kReading;
  vmm_->start_guest(3, 0, 11);
  for (int death = 0; death < 3; ++death) {
    start_pager({moment, lane, nth}, lane == "bulk" ? Bulk::kYes : Bulk::kNo);
    std::string end = wait_for_pager();
    // Precaching may be done before it comes to so many reads.
    if (death > 0 && end == "drained") break;
    ASSERT_EQ(end, "killed");
    EXPECT_GT(pages_in(left), 0U) << page_state_name(left);
    // The guest's last writes before the next pager is there.
    vmm_->write_mapped_pages();
  }
  start_pager(kNever, Bulk::kYes);
  EXPECT_EQ(wait_for_pager(), "drained");
  vmm_->stop_guest();
  expect_right_memory();
}

std::string name_of(const testing::TestParamInfo<PagerKilled::ParamType>& info) {
  std::string moment = std::get<0>(info.param);
  std::replace(moment.begin(), moment.end(), '-', '_');
  return fmt::format("{}_on_{}_read_{}", moment, std::get<1>(info.param), std::get<2>(info.param));
}
INSTANTIATE_TEST_SUITE_P(Transitions, PagerKilled,
                         testing::Combine(testing::Values("claimed", "half-written", "written",
                                                          "filled", "continued"),
                                          testing::Values("fault", "bulk"), testing::Values(1, 4)),
                         name_of);

// The test above can fail: a take-over that reads `filled` pages again loses what the guest wrote.
TEST_F(PagerTakeover, WouldLoseWritesIfItReadFilledPagesAgain) {
  start_pager({"continued", "bulk", 1}, Bulk::kYes);
  ASSERT_EQ(wait_for_pager(), "killed");
  uint64_t filled = pages_in(PageState::kFilled);
  ASSERT_GT(filled, 0U);
  EXPECT_EQ(vmm_->write_mapped_pages(), filled);
  for (size_t region = 0; region < vmm_->region_count(); ++region) {
    PageStates& states = vmm_->page_map().region(region);
    for (uint64_t page = 0; page < states.pages(); ++page) {
      if (states.get(page) == PageState::kFilled) states.give_back(page, 1);
    }
  }
  start_pager(kNever, Bulk::kYes);
  ASSERT_EQ(wait_for_pager(), "drained");
  EXPECT_EQ(vmm_->wrong_pages(), filled);
}

}  // namespace
}  // namespace vmhop

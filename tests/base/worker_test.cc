#include "backend/base/worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <vector>

namespace vmhop {
namespace {

TEST(Worker, RunsJobsInOrderInItsOwnThread) {
  Worker worker;
  std::vector<int> order;
  std::promise<std::thread::id> done;
  worker.post([&] { order.push_back(1); });
  worker.post([&] { order.push_back(2); });
  worker.post([&] { done.set_value(std::this_thread::get_id()); });
  EXPECT_NE(done.get_future().get(), std::this_thread::get_id());
  EXPECT_EQ(order, (std::vector{1, 2}));
}

TEST(Worker, FinishesTheJobUnderWayBeforeItGoes) {
  std::promise<void> begun;
  std::atomic<bool> finished{false};
  {
    Worker worker;
    worker.post([&] {
      begun.set_value();
      for (int turn = 0; turn < 1000; ++turn)
        std::this_thread::yield();
      finished = true;
    });
    begun.get_future().wait();
  }
  EXPECT_TRUE(finished);
}

}  // namespace
}  // namespace vmhop

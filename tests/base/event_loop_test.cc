#include "backend/base/event_loop.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

namespace vmhop {
namespace {

TEST(EventLoop, ServesReadyDescriptorsInOrderOfPriority) {
  auto loop = EventLoop::create().value();
  auto first = EventFd::create().value();
  auto second = EventFd::create().value();
  std::vector<int> order;
  loop->set(
      first.fd(), POLLIN, [&](short) { order.push_back(1); }, 5);
  loop->set(
      second.fd(), POLLIN, [&](short) { order.push_back(2); }, 1);
  first.notify();
  second.notify();
  ASSERT_TRUE(loop->run_once(0).ok());
  EXPECT_EQ(order, (std::vector<int>{2, 1}));
}

TEST(EventLoop, DoesNotCallAWatchThatAnEarlierCallbackRemoved) {
  auto loop = EventLoop::create().value();
  auto first = EventFd::create().value();
  auto second = EventFd::create().value();
  bool called = false;
  loop->set(
      first.fd(), POLLIN, [&](short) { loop->remove(second.fd()); }, 0);
  loop->set(
      second.fd(), POLLIN, [&](short) { called = true; }, 1);
  first.notify();
  second.notify();
  ASSERT_TRUE(loop->run_once(0).ok());
  EXPECT_FALSE(called);
}

TEST(EventLoop, RunsPostedWorkFromAnotherThreadAndStops) {
  auto loop = EventLoop::create().value();
  bool ran = false;
  std::thread other([&] {
    loop->post([&] { ran = true; });
    loop->post([&] { loop->stop(); });
  });
  ASSERT_TRUE(loop->run().ok());
  other.join();
  EXPECT_TRUE(ran);
}

TEST(EventLoop, FiresTimersInOrderAndNotCancelledOnes) {
  auto loop = EventLoop::create().value();
  std::vector<int> order;
  using std::chrono::milliseconds;
  loop->after(milliseconds(2), [&] {
    order.push_back(2);
    loop->stop();
  });
  loop->after(milliseconds(1), [&] { order.push_back(1); });
  auto cancelled = loop->after(milliseconds(0), [&] { order.push_back(0); });
  loop->cancel(cancelled);
  ASSERT_TRUE(loop->run().ok());
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

}  // namespace
}  // namespace vmhop

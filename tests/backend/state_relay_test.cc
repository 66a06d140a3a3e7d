#include "backend/state_relay.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/backend/memory_image.h"

namespace vmhop {
namespace {

using testing_support::must;

class StateRelayTest : public testing::Test {
 protected:
  StateRelayTest() : loop_(must(EventLoop::create())) {
    auto [left, right] = must(socket_pair(SOCK_STREAM));
    qemu_ = std::move(left);
    relay_ = must(StateRelay::start(*loop_, std::move(right), [this](auto bytes) {
      if (bytes.empty()) ++ends_;
      received_.insert(received_.end(), bytes.begin(), bytes.end());
    }));
  }

  // One round of the loop; it may find nothing to do.
  void turn() { must(loop_->run_once(0)); }
  static std::vector<std::byte> bytes(size_t size) { return {size, std::byte{7}}; }
  void qemu_writes(size_t size) const { must(write_all(qemu_.get(), bytes(size))); }
  size_t qemu_reads() const {
    std::vector<std::byte> buffer(1 << 20);
    ssize_t got = ::recv(qemu_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    return got < 0 ? 0 : static_cast<size_t>(got);
  }

  std::unique_ptr<EventLoop> loop_;
  UniqueFd qemu_;
  std::vector<std::byte> received_;
  int ends_ = 0;
  std::unique_ptr<StateRelay> relay_;
};

TEST_F(StateRelayTest, HandsOnWhatQemuWrites) {
  qemu_writes(StateRelay::kPiece + 5);
  turn();
  turn();
  EXPECT_EQ(received_, bytes(StateRelay::kPiece + 5));
  EXPECT_EQ(ends_, 0);
}

TEST_F(StateRelayTest, TellsOnceThatQemuHasEnded) {
  qemu_writes(3);
  qemu_.reset();
  for (int i = 0; i < 5; ++i)
    turn();
  EXPECT_EQ(received_.size(), 3U);
  EXPECT_EQ(ends_, 1);
}

TEST_F(StateRelayTest, KeepsWhatQemuDoesNotTakeAtOnce) {
  relay_->write(bytes(4 << 20));
  size_t read = 0;
  while (read < 4U << 20) {
    size_t got = qemu_reads();
    read += got;
    if (got == 0) turn();
  }
  EXPECT_EQ(read, 4U << 20);
}

TEST_F(StateRelayTest, GoesOnWritingAfterQemuHasEndedItsOwnStream) {
  relay_->write(bytes(4 << 20));
  ASSERT_EQ(::shutdown(qemu_.get(), SHUT_WR), 0);
  turn();
  EXPECT_EQ(ends_, 1);
  size_t read = 0;
  while (read < 4U << 20) {
    size_t got = qemu_reads();
    read += got;
    // The loop waits for the socket, and that is ready again: no byte comes without this.
    if (got == 0) must(loop_->run_once(20'000));
  }
  EXPECT_EQ(read, 4U << 20);
}

TEST_F(StateRelayTest, AsksForNothingOnceAllIsWrittenAndRead) {
  relay_->write(bytes(4 << 20));
  ASSERT_EQ(::shutdown(qemu_.get(), SHUT_WR), 0);
  for (size_t read = 0; read < 4U << 20;) {
    read += qemu_reads();
    turn();
  }
  turn();
  // A timer ends the wait; a watch that is always ready would end it first.
  bool timer = false;
  loop_->after(std::chrono::milliseconds(1), [&] { timer = true; });
  must(loop_->run_once(20'000));
  EXPECT_TRUE(timer);
}

TEST_F(StateRelayTest, EndsItsStreamBehindTheLastByte) {
  relay_->write(bytes(4 << 20));
  relay_->write({});
  size_t read = 0;
  std::vector<std::byte> buffer(1 << 20);
  for (;;) {
    ssize_t got = ::recv(qemu_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got == 0) break;
    if (got > 0) read += static_cast<size_t>(got);
    turn();
  }
  EXPECT_EQ(read, 4U << 20);
}

TEST_F(StateRelayTest, ReadsNothingWhileItIsPaused) {
  relay_->pause();
  qemu_writes(10);
  turn();
  EXPECT_TRUE(received_.empty());
  relay_->resume();
  turn();
  EXPECT_EQ(received_.size(), 10U);
}

TEST_F(StateRelayTest, StaysPausedWhenQemuHangsUp) {
  relay_->pause();
  qemu_writes(10);
  qemu_.reset();
  turn();
  turn();
  EXPECT_TRUE(received_.empty());
  EXPECT_EQ(ends_, 0);
  relay_->resume();
  turn();
  turn();
  EXPECT_EQ(received_.size(), 10U);
  EXPECT_EQ(ends_, 1);
}

TEST_F(StateRelayTest, SurvivesWritingToAQemuThatIsGone) {
  qemu_.reset();
  relay_->write(bytes(100));
  relay_->write({});
  turn();
  EXPECT_EQ(ends_, 1);
}

}  // namespace
}  // namespace vmhop

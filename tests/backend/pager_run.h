// A pager for the memory of a toy VMM, and the owner that a pager needs: it brings new page sources
// when one is lost, and asks whether the VM is drained.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "backend/pager.h"
#include "tests/backend/toy_vmm.h"

namespace vmhop::testing_support {

inline constexpr std::chrono::seconds kPatience{60};

// Waits for something that other threads do and do not announce.
template <typename Condition>
bool eventually(Condition&& condition) {
  auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

class PagerRun {
 public:
  static constexpr int kFaultLane = -1;
  // A page source for a lane: kFaultLane, or a precacher's number. Null leaves it without one.
  using Connect = std::function<std::unique_ptr<PageSource>(int lane)>;

  PagerRun(ToyVmm& vmm, unsigned precachers, Connect connect);

  Pager& pager() { return *pager_; }
  // As the source would send it.
  void give_final_layout(std::span<const RamRegion> source);
  // New page sources for all lanes.
  void attach_all();

  // Serves the pager until the VM is drained, with new sources for all lanes whenever one is lost.
  // False when that takes too long, or when the pager is broken.
  [[nodiscard]] bool drain();
  // Waits for the loss of a page source; its error's message, or empty after too long.
  std::string wait_for_loss();
  void wait_for_idle();

  size_t losses();
  // What became of wrong pages, in order.
  std::vector<WrongPage::Fate> fates();
  std::string broken();

 private:
  void note(const std::function<void()>& change);
  template <typename Condition>
  bool wait(Condition&& condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, condition);
  }

  unsigned precachers_;
  Connect connect_;

  std::mutex mutex_;  // guards what the pager's threads report
  std::condition_variable changed_;
  size_t idle_reports_ = 0;
  size_t idle_seen_ = 0;
  size_t losses_ = 0;
  std::deque<std::string> lost_;
  std::string broken_;
  std::vector<WrongPage::Fate> fates_;

  std::unique_ptr<Pager> pager_;  // first to go: its threads report here
};

}  // namespace vmhop::testing_support

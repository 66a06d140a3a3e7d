// A client of the guest's redis that never stops asking: each answer timed, and compared with what
// it must be.
#pragma once

#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "tests/lab/clock.h"
#include "tests/lab/namespace.h"

namespace vmhop::bench {

// What is in the guest's redis: values named key:000000000000 and on, as tests/guests/linux/init
// fills it.
struct CacheContents {
  uint64_t values;
  static constexpr size_t kValueBytes = 1000;
  static constexpr uint64_t kValuesPerMib = 1024;
};
// What others may write meanwhile, to any of them.
std::string overwritten_value();

class CacheProbe {
 public:
  // One connection from `where`, a random value each 2 ms.
  static Result<std::unique_ptr<CacheProbe>> start(const lab::Namespace& where,
                                                   const std::string& address,
                                                   const CacheContents& contents);
  ~CacheProbe();
  CacheProbe(const CacheProbe&) = delete;
  CacheProbe& operator=(const CacheProbe&) = delete;

  Status wait_for_answers(size_t count, lab::Deadline deadline) const;
  // The longest that it was without an answer: from one to the next, both ends or one of them in
  // this time.
  lab::Clock::duration longest_gap(lab::Clock::time_point from, lab::Clock::time_point to) const;
  // An error once a request has failed, with which nothing more is asked.
  Status failure() const;

 private:
  CacheProbe(const CacheContents& contents, EventFd stop)
      : contents_(contents), stop_(std::move(stop)) {}
  Status ask_for_ever(const std::string& address);
  Status ask(int socket, uint64_t number);
  Result<bool> stopped_within(std::chrono::milliseconds span) const;

  CacheContents contents_;
  EventFd stop_;
  mutable std::mutex mutex_;  // guards answered_ and failure_
  std::vector<lab::Clock::time_point> answered_;
  Status failure_;
  std::thread thread_;
};

}  // namespace vmhop::bench

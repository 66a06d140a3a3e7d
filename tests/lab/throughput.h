// What a network interface receives over time.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "tests/lab/clock.h"
#include "tests/lab/namespace.h"

namespace vmhop::lab {

class Throughput {
 public:
  static constexpr std::chrono::milliseconds kInterval{20};

  static Result<std::unique_ptr<Throughput>> start(const Namespace& where, std::string interface);
  ~Throughput();
  Throughput(const Throughput&) = delete;
  Throughput& operator=(const Throughput&) = delete;

  // Mean bytes a second; what lies between two samples is taken as even. 0 without samples there.
  double bytes_per_second(Clock::time_point from, Clock::time_point to) const;

  struct Span {
    Clock::time_point from;
    Clock::time_point to;
  };
  // From the first to the last of the samples between two moments by which more than so many bytes
  // had come since the one before; none if there are none.
  std::optional<Span> busy_span(Clock::time_point from, Clock::time_point to, double bytes) const;

 private:
  struct Sample {
    Clock::time_point at;
    uint64_t received;
  };

  Throughput(std::string interface, EventFd stop)
      : interface_(std::move(interface)), stop_(std::move(stop)) {}
  void sample();
  double received_at(Clock::time_point at) const;

  std::string interface_;
  EventFd stop_;
  mutable std::mutex mutex_;  // guards samples_
  std::vector<Sample> samples_;
  std::thread thread_;
};

}  // namespace vmhop::lab

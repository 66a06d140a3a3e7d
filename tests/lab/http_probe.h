// A client that never stops asking: a few keep-alive connections to the guest's web server, each
// answer timed and compared with what it must be.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "tests/lab/clock.h"
#include "tests/lab/namespace.h"

namespace vmhop::lab {

struct ProbeSpec {
  std::string address;
  uint16_t port = 80;
  std::string www;  // the directory with what the server serves
  // One connection each, all files of it in turn.
  std::vector<std::vector<std::string>> connections = {{"1k.txt"}, {"1k.txt", "16k.txt"}};
  std::chrono::milliseconds pause{2};      // after each answer
  std::chrono::seconds give_up_after{30};  // then a request counts as failed
};

struct ProbeAnswer {
  Clock::time_point asked;
  Clock::time_point answered;
  unsigned connection = 0;
};

struct ProbeReport {
  uint64_t requests = 0;  // answered or failed
  uint64_t failed = 0;    // no answer, a wrong one, or a connection that broke
  std::vector<std::string> complaints;
};

class HttpProbe {
 public:
  static Result<std::unique_ptr<HttpProbe>> start(const Namespace& where, const ProbeSpec& spec);
  ~HttpProbe();
  HttpProbe(const HttpProbe&) = delete;
  HttpProbe& operator=(const HttpProbe&) = delete;

  ProbeReport report() const;
  uint64_t answers() const;
  // The longest that a client was without an answer, of any connection: from one answer to its
  // next, both ends or one of them in this time.
  Clock::duration longest_gap(Clock::time_point from, Clock::time_point to) const;
  // Waits until there are so many more answers than now.
  Status wait_for_answers(uint64_t more, Deadline deadline) const;

 private:
  struct Shared;
  HttpProbe(std::shared_ptr<Shared> shared, EventFd stop)
      : shared_(std::move(shared)), stop_(std::move(stop)) {}

  std::shared_ptr<Shared> shared_;
  EventFd stop_;
  std::thread thread_;
};

}  // namespace vmhop::lab

// Load by wrk, a real HTTP benchmark.
#pragma once

#include <cstdint>
#include <string>

#include "backend/base/result.h"
#include "tests/lab/process.h"

namespace vmhop::lab {

struct WrkSummary {
  uint64_t requests = 0;
  double requests_per_second = 0;
  uint64_t socket_errors = 0;  // connect, read, write and time-outs
  uint64_t bad_answers = 0;    // other than 2xx and 3xx
  uint64_t failed() const { return socket_errors + bad_answers; }
};
// Of what wrk prints at its end.
Result<WrkSummary> parse_wrk(const std::string& printed);

class Wrk {
 public:
  // Runs until stop(). `output` is where its output goes.
  static Result<Wrk> start(const Namespace& where, const std::string& url, unsigned connections,
                           const std::string& output);
  Result<WrkSummary> stop();

 private:
  explicit Wrk(Process process) : process_(std::move(process)) {}
  Process process_;
};

}  // namespace vmhop::lab

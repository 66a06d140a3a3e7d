// A line on standard error for each thing that was measured: how far a long run has come.
#pragma once

#include <chrono>
#include <string>

#include "backend/base/result.h"

namespace vmhop::bench {

class Progress {
 public:
  explicit Progress(unsigned expected) : expected_(expected) {}

  void done(const std::string& what, const std::string& figures);
  // What fails is told and left out: the rest still says something.
  void failed(const std::string& what, const Error& error);
  unsigned failures() const { return failures_; }

 private:
  void print(const std::string& line);

  const std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  unsigned expected_;
  unsigned ended_ = 0;
  unsigned failures_ = 0;
};

}  // namespace vmhop::bench

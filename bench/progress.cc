#include "bench/progress.h"

#include <fmt/format.h>

#include <cstdio>

namespace vmhop::bench {

void Progress::done(const std::string& what, const std::string& figures) {
  print(what + ":" + figures);
}

void Progress::failed(const std::string& what, const Error& error) {
  ++failures_;
  print(what + " failed: " + error.message());
}

void Progress::print(const std::string& line) {
  using std::chrono::seconds;
  auto elapsed = std::chrono::duration_cast<seconds>(std::chrono::steady_clock::now() - since_);
  ++ended_;
  fmt::print(stderr, "[{} of {}, {}:{:02} min] {}\n", ended_, expected_, elapsed.count() / 60,
             elapsed.count() % 60, line);
}

}  // namespace vmhop::bench

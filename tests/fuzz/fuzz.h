// What the fuzz targets share: how an input is taken apart, and what fails a run.
//
// A target defines LLVMFuzzerTestOneInput(). With VMHOP_FUZZ libFuzzer calls it with inputs that it
// makes; in every other build replay.cc calls it with those of corpus/, as a unit test.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "backend/base/result.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace vmhop::fuzz {

// Where a promise of the code does not hold the run ends as by a crash: libFuzzer keeps the input.
inline void require(bool holds, std::string_view promise) {
  if (holds) return;
  fmt::print(stderr, "broken promise: {}\n", promise);
  std::abort();
}

// What a target stands on, and no input can spoil.
template <typename T>
T must(Result<T> result) {
  require(result.ok(), result.ok() ? "" : result.error().message());
  return std::move(result).value();
}
inline void must(const Status& status) {
  require(status.ok(), status.ok() ? "" : status.error().message());
}

// Takes an input apart from its front. What is beyond its end is 0, or nothing.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(data, size) {}

  bool empty() const { return rest_.empty(); }
  uint8_t byte() {
    if (rest_.empty()) return 0;
    uint8_t value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }
  uint16_t word() {
    auto low = byte();
    return static_cast<uint16_t>(low | byte() << 8);
  }
  std::span<const std::byte> bytes(size_t most) {
    auto taken = rest_.first(std::min(most, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return std::as_bytes(taken);
  }
  std::span<const std::byte> rest() { return bytes(rest_.size()); }
  std::string_view text() {
    auto taken = rest();
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

 private:
  std::span<const uint8_t> rest_;
};

}  // namespace vmhop::fuzz

// Little-endian fields to bytes and back. The Decoder checks every bound; its first failure sticks
// and names the field, so that decoding code reads straight through and asks once at the end.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/base/result.h"

namespace vmhop {

static_assert(std::endian::native == std::endian::little, "add byte swaps to the wire format");

class Encoder {
 public:
  template <std::unsigned_integral T>
  void number(T value) {
    raw(std::as_bytes(std::span(&value, 1)));
  }
  void boolean(bool value) { number<uint8_t>(value ? 1 : 0); }
  void raw(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void count(size_t value) { number(static_cast<uint32_t>(value)); }
  void bytes(std::span<const std::byte> value) {
    count(value.size());
    raw(value);
  }
  void text(std::string_view value) { bytes(std::as_bytes(std::span(value))); }

  size_t size() const { return bytes_.size(); }
  void reserve(size_t size) { bytes_.reserve(size); }
  std::vector<std::byte> take() && { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class Decoder {
 public:
  explicit Decoder(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <std::unsigned_integral T>
  T number(const char* field) {
    T value{};
    if (!have(sizeof value, field)) return value;
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_ = rest_.subspan(sizeof value);
    return value;
  }

  bool boolean(const char* field) {
    auto value = number<uint8_t>(field);
    if (value > 1) fail(errorf("{} is {}, neither 0 nor 1", field, value));
    return value == 1;
  }

  // An enum whose values are `first` to `last` without a gap.
  template <typename E>
  E enumerated(const char* field, E first, E last) {
    auto value = number<std::underlying_type_t<E>>(field);
    if (value < static_cast<std::underlying_type_t<E>>(first) ||
        value > static_cast<std::underlying_type_t<E>>(last)) {
      fail(errorf("{} has the unknown value {}", field, value));
      return first;
    }
    return static_cast<E>(value);
  }

  // A count of things of at least `unit` bytes each, at most `limit`; what it promises is there.
  size_t count(const char* field, size_t limit, size_t unit) {
    size_t value = number<uint32_t>(field);
    if (value > limit) {
      fail(errorf("{} has {} entries; {} are allowed", field, value, limit));
      return 0;
    }
    return have(value * unit, field) ? value : 0;
  }

  std::span<const std::byte> raw(const char* field, size_t size) {
    if (!have(size, field)) return {};
    auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  std::vector<std::byte> bytes(const char* field, size_t limit) {
    auto taken = raw(field, count(field, limit, 1));
    return {taken.begin(), taken.end()};
  }
  std::string text(const char* field, size_t limit) {
    auto taken = raw(field, count(field, limit, 1));
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  void fail(Error error) {
    if (!error_) error_ = std::move(error);
  }
  bool failed() const { return error_.has_value(); }

  // The first failure; bytes left over are one.
  Status finish() const {
    if (error_) return *error_;
    if (!rest_.empty()) return errorf("{} bytes too many at the end", rest_.size());
    return ok_status();
  }

 private:
  bool have(size_t size, const char* field) {
    if (failed()) return false;
    if (size <= rest_.size()) return true;
    fail(errorf("it ends in the middle of {}", field));
    return false;
  }

  std::span<const std::byte> rest_;
  std::optional<Error> error_;
};

}  // namespace vmhop

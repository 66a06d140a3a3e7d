// Numbers as people read them.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "cli/json_access.h"

namespace vmhop {

inline std::string format_bytes(uint64_t bytes) {
  auto value = static_cast<double>(bytes);
  if (bytes >= 10ULL << 30) return fmt::format("{:.1f} GiB", value / (1 << 30));
  if (bytes >= 1ULL << 20) return fmt::format("{:.0f} MiB", value / (1 << 20));
  if (bytes >= 1ULL << 10) return fmt::format("{:.0f} KiB", value / (1 << 10));
  return fmt::format("{} B", bytes);
}

inline std::string format_duration(uint64_t ns) {
  auto value = static_cast<double>(ns);
  if (ns < 10'000) return fmt::format("{:.1f} µs", value / 1e3);
  if (ns < 1'000'000) return fmt::format("{:.0f} µs", value / 1e3);
  if (ns < 1'000'000'000) return fmt::format("{:.1f} ms", value / 1e6);
  if (ns < 120'000'000'000) return fmt::format("{:.2f} s", value / 1e9);
  return fmt::format("{:.0f} min", value / 60e9);
}

// The nanoseconds of a JSON member; "-" for none.
inline std::string duration_of(const nlohmann::json& object, const char* key) {
  uint64_t ns = number_of(object, key);
  return ns == 0 ? "-" : format_duration(ns);
}

inline std::string format_count(uint64_t count) {
  std::string digits = std::to_string(count);
  for (size_t end = digits.size(); end > 3; end -= 3)
    digits.insert(end - 3, 1, ',');
  return digits;
}

inline double percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace vmhop

// Reading JSON from outside without exceptions: a missing or mistyped member is the fallback.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace vmhop {

// Records on disk are never near so many bytes; more is not read.
inline constexpr size_t kMaxRecord = 1 << 20;

inline std::string text_of(const nlohmann::json& object, const char* key,
                           const std::string& fallback = {}) {
  if (!object.is_object()) return fallback;
  auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : fallback;
}

inline uint64_t number_of(const nlohmann::json& object, const char* key, uint64_t fallback = 0) {
  if (!object.is_object()) return fallback;
  auto it = object.find(key);
  if (it == object.end() || !it->is_number()) return fallback;
  if (it->is_number_unsigned()) return it->get<uint64_t>();
  if (it->is_number_integer()) {
    auto value = it->get<int64_t>();
    return value < 0 ? fallback : static_cast<uint64_t>(value);
  }
  double value = it->get<double>();
  return value >= 0 && value < 1.8e19 ? static_cast<uint64_t>(value) : fallback;
}

inline bool flag_of(const nlohmann::json& object, const char* key, bool fallback) {
  if (!object.is_object()) return fallback;
  auto it = object.find(key);
  return it != object.end() && it->is_boolean() ? it->get<bool>() : fallback;
}

// The member, or an empty value of its own (null).
inline const nlohmann::json& member_of(const nlohmann::json& object, const char* key) {
  static const nlohmann::json none;
  if (!object.is_object()) return none;
  auto it = object.find(key);
  return it != object.end() ? *it : none;
}

}  // namespace vmhop

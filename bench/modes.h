// The names of the ways to relocate: "preempt" carries page data plain, "preempt-tls" does the same
// encrypted. Only modes of one kind are compared with each other.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vmhop::bench {

inline constexpr std::string_view kEncryptedSuffix = "-tls";

inline bool is_encrypted(std::string_view mode) {
  return mode.ends_with(kEncryptedSuffix);
}

// Of a mode of either kind: "preempt-tls" → "preempt".
inline std::string base_mode(std::string_view mode) {
  if (is_encrypted(mode)) mode.remove_suffix(kEncryptedSuffix.size());
  return std::string(mode);
}

// The plain ones, "vmhop", "precopy", "postcopy", "preempt", and the same encrypted.
const std::vector<std::string>& all_modes();
const std::vector<std::string>& encrypted_modes();

}  // namespace vmhop::bench

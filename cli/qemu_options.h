// QEMU's command line as QEMU itself reads it: options, their properties and sizes. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/base/result.h"

namespace vmhop {

struct QemuOption {
  std::string name;                  // without dashes; empty for a bare word (a disk image)
  std::optional<std::string> value;  // of options that take one
};

// Splits arguments (without the program) into options. `-opt` and `--opt` are the same.
Result<std::vector<QemuOption>> split_qemu_arguments(std::span<const std::string> arguments);

// The properties of an option's value in order: "key=value,…" with ",," for a comma, the first
// value's key being `implied_key` when it has none; or a JSON object, its nested members flattened
// to "outer.inner" and its booleans written on and off.
using PropertyList = std::vector<std::pair<std::string, std::string>>;
Result<PropertyList> parse_properties(std::string_view text, std::string_view implied_key);
// The last value of `key`, as QEMU takes it.
std::optional<std::string> property(const PropertyList& properties, std::string_view key);
// QEMU's spellings of yes.
bool is_on(const std::optional<std::string>& value);

// "text" with its commas doubled, for use as a value within key=value lists.
std::string escape_commas(std::string_view text);

// "1.5G", "0x1000", "512" (bytes, unless `default_unit` says otherwise).
Result<uint64_t> parse_qemu_size(std::string_view text, uint64_t default_unit = 1);

}  // namespace vmhop

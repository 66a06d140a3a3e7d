#include "cli/qemu_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "backend/base/json_text.h"

namespace vmhop {
namespace {

using nlohmann::json;

// All options that stand alone, QEMU 5.0 to 10.0, every target; every other one takes a value.
constexpr std::array kOptionsWithoutValue = {
    "S",
    "alt-grab",
    "async-teardown",
    "audio-help",
    "ctrl-grab",
    "curses",
    "daemonize",
    "enable-fips",
    "enable-kvm",
    "enable-sync-profile",
    "full-screen",
    "h",
    "help",
    "mem-prealloc",
    "no-acpi",
    "no-fd-bootchk",
    "no-frame",
    "no-hpet",
    "no-quit",
    "no-reboot",
    "no-shutdown",
    "no-user-config",
    "nodefaults",
    "nographic",
    "old-param",
    "one-insn-per-tb",
    "only-migratable",
    "perfmap",
    "jitdump",
    "portrait",
    "preconfig",
    "s",
    "sdl",
    "semihosting",
    "singlestep",
    "snapshot",
    "usb",
    "version",
    "win2k-hack",
    "xen-attach",
    "xen-domid-restrict",
};

bool takes_value(std::string_view name) {
  return std::find(kOptionsWithoutValue.begin(), kOptionsWithoutValue.end(), name) ==
         kOptionsWithoutValue.end();
}

std::string scalar_text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
  return value.dump();
}

void flatten(const json& value, const std::string& key, PropertyList& into) {
  if (!value.is_structured()) {
    into.emplace_back(key, scalar_text(value));
    return;
  }
  size_t index = 0;
  for (auto it = value.begin(); it != value.end(); ++it, ++index) {
    std::string name = value.is_object() ? it.key() : std::to_string(index);
    flatten(*it, key.empty() ? name : fmt::format("{}.{}", key, name), into);
  }
}

Result<PropertyList> parse_json_properties(std::string_view text) {
  auto body = parse_json(text);
  if (!body.is_object()) return refusedf("'{}' is not valid JSON", text);
  PropertyList properties;
  flatten(body, "", properties);
  return properties;
}

// Up to the next single comma; ",," is a comma.
std::string next_item(std::string_view& text) {
  std::string item;
  while (!text.empty()) {
    char c = text.front();
    text.remove_prefix(1);
    if (c == ',') {
      if (text.empty() || text.front() != ',') break;
      text.remove_prefix(1);
    }
    item += c;
  }
  return item;
}

std::optional<uint64_t> unit_of(char suffix) {
  switch (suffix) {
    case 'b':
    case 'B':
      return 1;
    case 'k':
    case 'K':
      return 1ULL << 10;
    case 'm':
    case 'M':
      return 1ULL << 20;
    case 'g':
    case 'G':
      return 1ULL << 30;
    case 't':
    case 'T':
      return 1ULL << 40;
    case 'p':
    case 'P':
      return 1ULL << 50;
    case 'e':
    case 'E':
      return 1ULL << 60;
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<std::vector<QemuOption>> split_qemu_arguments(std::span<const std::string> arguments) {
  std::vector<QemuOption> options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word.empty() || word[0] != '-' || word == "-") {
      options.push_back({"", word});
      continue;
    }
    QemuOption option{word.substr(word.starts_with("--") ? 2 : 1), std::nullopt};
    // Passed on it would be another option than the one that was looked at: "--snapshot".
    if (option.name.empty() || option.name[0] == '-') {
      return refusedf("QEMU knows no option {}", word);
    }
    if (takes_value(option.name)) {
      if (i + 1 == arguments.size()) return refusedf("QEMU's option {} needs a value", word);
      option.value = arguments[++i];
    }
    options.push_back(std::move(option));
  }
  return options;
}

Result<PropertyList> parse_properties(std::string_view text, std::string_view implied_key) {
  if (text.starts_with('{')) return parse_json_properties(text);
  PropertyList properties;
  bool first = true;
  while (!text.empty()) {
    std::string item = next_item(text);
    size_t equals = item.find('=');
    if (equals != std::string::npos) {
      properties.emplace_back(item.substr(0, equals), item.substr(equals + 1));
    } else if (first && !implied_key.empty()) {
      properties.emplace_back(implied_key, item);
    } else if (!item.empty()) {
      properties.emplace_back(item, "on");
    }
    first = false;
  }
  return properties;
}

std::optional<std::string> property(const PropertyList& properties, std::string_view key) {
  auto it = std::find_if(properties.rbegin(), properties.rend(),
                         [key](const auto& entry) { return entry.first == key; });
  if (it == properties.rend()) return std::nullopt;
  return it->second;
}

bool is_on(const std::optional<std::string>& value) {
  return value && (*value == "on" || *value == "yes" || *value == "true" || *value == "y");
}

std::string escape_commas(std::string_view text) {
  std::string escaped;
  for (char c : text) {
    escaped += c;
    if (c == ',') escaped += c;
  }
  return escaped;
}

Result<uint64_t> parse_qemu_size(std::string_view text, uint64_t default_unit) {
  auto bad = [text] { return refusedf("'{}' is not a size; write for example 512M or 4G", text); };
  const char* end = text.data() + text.size();
  if (text.starts_with("0x") || text.starts_with("0X")) {
    uint64_t value = 0;
    auto parsed = std::from_chars(text.data() + 2, end, value, 16);
    if (parsed.ec != std::errc{} || parsed.ptr != end) return bad();
    if (value > UINT64_MAX / default_unit) return bad();
    return value * default_unit;
  }
  uint64_t whole = 0;
  auto parsed = std::from_chars(text.data(), end, whole);
  if (parsed.ec != std::errc{}) return bad();
  double fraction = 0;
  const char* rest = parsed.ptr;
  if (rest != end && *rest == '.') {
    const char* digits = ++rest;
    double place = 0.1;
    for (; rest != end && *rest >= '0' && *rest <= '9'; ++rest, place /= 10)
      fraction += place * (*rest - '0');
    if (rest == digits) return bad();
  }
  uint64_t unit = default_unit;
  if (rest != end) {
    auto named = unit_of(*rest);
    if (!named || rest + 1 != end) return bad();
    unit = *named;
  }
  if (fraction != 0 && unit == 1) return bad();
  if (whole > UINT64_MAX / unit - 1) return bad();
  return whole * unit + static_cast<uint64_t>(std::llround(fraction * static_cast<double>(unit)));
}

}  // namespace vmhop

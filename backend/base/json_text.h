// Text from outside as JSON, without exceptions.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace vmhop {

// QEMU's own limit. Values are copied and written recursively: without one, 100 KiB of brackets are
// more than a stack takes.
inline constexpr int kMaxJsonDepth = 1024;

// Is discarded (is_discarded(), of no other type) when the text is not JSON, or nests too deep.
inline nlohmann::json parse_json(std::string_view text) {
  bool too_deep = false;
  // `depth` is that of what holds the value: 0 for the text's own.
  auto look = [&too_deep](int depth, nlohmann::json::parse_event_t event,
                          nlohmann::json& /*value*/) {
    bool begins = event == nlohmann::json::parse_event_t::object_start ||
                  event == nlohmann::json::parse_event_t::array_start;
    too_deep = too_deep || (begins && depth >= kMaxJsonDepth);
    return !too_deep;
  };
  auto body = nlohmann::json::parse(text, look, false);
  if (too_deep) return nlohmann::json::value_t::discarded;
  return body;
}

}  // namespace vmhop

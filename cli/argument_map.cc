#include "cli/argument_map.h"

#include <cctype>
#include <set>

namespace vmhop {
namespace {

bool joins_words(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
}

// Whether `from` stands for itself at `at` in `text`.
bool stands_alone(std::string_view text, size_t at, std::string_view from) {
  if (text.substr(at, from.size()) != from) return false;
  if (at > 0 && joins_words(text[at - 1])) return false;
  size_t end = at + from.size();
  return end == text.size() || !joins_words(from.back()) || !joins_words(text[end]);
}

const ArgumentMap* find_map(std::string_view text, size_t at,
                            const std::vector<ArgumentMap>& maps) {
  const ArgumentMap* longest = nullptr;
  for (const ArgumentMap& map : maps) {
    bool longer = longest == nullptr || map.from.size() > longest->from.size();
    if (longer && stands_alone(text, at, map.from)) longest = &map;
  }
  return longest;
}

}  // namespace

Result<ArgumentMap> parse_argument_map(std::string_view text) {
  size_t equals = text.find('=');
  if (equals == 0 || equals == std::string_view::npos) {
    return refusedf(
        "--map {} is not OLD=NEW: what is in QEMU's command line here, and what takes its place "
        "there",
        text);
  }
  return ArgumentMap{std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

Result<std::vector<std::string>> map_arguments(const std::vector<std::string>& arguments,
                                               const std::vector<ArgumentMap>& maps) {
  std::vector<std::string> mapped;
  std::set<const ArgumentMap*> used;
  for (const std::string& argument : arguments) {
    std::string& text = mapped.emplace_back();
    for (size_t at = 0; at < argument.size();) {
      if (const ArgumentMap* map = find_map(argument, at, maps)) {
        used.insert(map);
        text += map->to;
        at += map->from.size();
      } else {
        text += argument[at++];
      }
    }
  }
  for (const ArgumentMap& map : maps) {
    if (used.contains(&map)) continue;
    return refusedf(
        "--map {0}={1}: {0} is nowhere in the VM's QEMU command line as a word, path or number of "
        "its own",
        map.from, map.to);
  }
  return mapped;
}

std::vector<std::string> arguments_to_receive_with(const std::vector<std::string>& arguments) {
  std::vector<std::string> kept;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string_view name = arguments[i];
    if (name.starts_with("--")) name.remove_prefix(1);
    if (name == "-loadvm") {
      ++i;
    } else if (name != "-preconfig") {
      kept.push_back(arguments[i]);
    }
  }
  return kept;
}

}  // namespace vmhop

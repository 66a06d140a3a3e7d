// A VM's QEMU command line for another host: `--map OLD=NEW` for what differs there. Pure
// functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backend/base/result.h"

namespace vmhop {

struct ArgumentMap {
  std::string from;
  std::string to;
  bool operator==(const ArgumentMap&) const = default;
};

// "OLD=NEW", at the first '='.
Result<ArgumentMap> parse_argument_map(std::string_view text);

// Puts NEW in place of each OLD that stands for itself: not within a longer name or number. So tap1
// is not found in tap10, nor /images in /images2 or in /my/images, but it is in /images/a.img. What
// was put in is not mapped again. An OLD that is nowhere is an error (kRefused).
Result<std::vector<std::string>> map_arguments(const std::vector<std::string>& arguments,
                                               const std::vector<ArgumentMap>& maps);

// QEMU's command line without what only its first start needs, and a VM that arrives cannot have:
// -loadvm and -preconfig.
std::vector<std::string> arguments_to_receive_with(const std::vector<std::string>& arguments);

}  // namespace vmhop

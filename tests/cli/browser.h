// A headless browser that looks at a page as a person would, and says what it drew.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "backend/base/result.h"

namespace vmhop {

// Opens the HTML file in Debian's chromium-headless-shell, in light or dark colours, and returns
//   {"complaints": what its console said, "title", "text": all that can be read,
//    "phases": [{"chart", "name", "width", "height", "seen": inside of its chart}, …] as drawn,
//    "paths", "buckets": how many of them, "contrast": of text and background, "overflow": whether
//    it is wider than its window, "elements": names of all elements, "requests": what it loaded}
Result<nlohmann::json> look_at_page(const std::string& html_file, bool dark = false);

}  // namespace vmhop

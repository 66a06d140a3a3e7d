// A relocation as one page of HTML that needs nothing else: `vmhop report`.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace vmhop {

// Of a RelocationCourse's record, which may be incomplete or wrong: what is not there is left out,
// and nothing of it is taken for markup.
std::string report_page(const nlohmann::json& record);

}  // namespace vmhop

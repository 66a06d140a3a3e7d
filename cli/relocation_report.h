// What a finished relocation is called, and how it is reported.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace vmhop {

struct RelocationVerdict {
  int exit_code;
  std::string state;    // for scripts
  std::string message;  // for people; empty when all is well
};

// Of a supervisor's "result" event.
RelocationVerdict judge_relocation(const nlohmann::json& result, const std::string& vm,
                                   const std::string& destination, bool interrupted);

nlohmann::json report_json(const nlohmann::json& report, uint64_t ram_mib, uint64_t blackout_ns);
std::string report_text(const nlohmann::json& report, const std::string& vm,
                        const std::string& destination, uint64_t ram_mib);

}  // namespace vmhop

#include "cli/relocation_report.h"

#include "cli/exit_codes.h"
#include "cli/format.h"
#include "cli/json_access.h"

namespace vmhop {
namespace {

using nlohmann::json;

double milliseconds(uint64_t ns) {
  return static_cast<double>(ns / 1000) / 1000;
}

double microseconds(uint64_t ns) {
  return static_cast<double>(ns / 100) / 10;
}

}  // namespace

RelocationVerdict judge_relocation(const json& result, const std::string& vm,
                                   const std::string& destination, bool interrupted) {
  std::string end = text_of(result, "end");
  std::string kind = text_of(result, "kind");
  std::string message = text_of(result, "message");
  if (end == "drained") return {kExitDone, "drained", ""};
  if (end == "ended") {
    return {kExitEndedBeforeDrained, "ended",
            fmt::format("{} was relocated to {} and ended there before it was drained: {}", vm,
                        destination, message)};
  }
  if (end == "dropped") {
    return {kExitUnresolved, "dropped",
            fmt::format("{}: {} before {} had all of it", vm, message, destination)};
  }
  if (end == "left") {
    return {
        kExitDetached, "detached",
        fmt::format("{} runs at {}; its supervisor here has left: {}", vm, destination, message)};
  }
  if (end == "vm_gone") {
    return {kExitFailed, "gone", fmt::format("{} ended before it was relocated: {}", vm, message)};
  }
  if (interrupted && kind == "aborted") {
    return {kExitInterrupted, "aborted", fmt::format("aborted; {} runs on here", vm)};
  }
  return {kind == "refused" ? kExitRefused : kExitFailed, kind == "refused" ? "refused" : "failed",
          fmt::format("{} stays here: {}", vm, message)};
}

json report_json(const json& report, uint64_t ram_mib, uint64_t blackout_ns) {
  auto number = [&](const char* key) { return number_of(report, key); };
  return {{"blackout_ms", milliseconds(number_of(report, "blackout_ns", blackout_ns))},
          {"drained_ms", milliseconds(number("drained_ns"))},
          {"ram_mib", ram_mib},
          {"pages_faulted", number("pages_faulted")},
          {"pages_precached", number("pages_precached")},
          {"pages_hole", number("pages_hole")},
          {"pages_verified", number("pages_verified")},
          {"faults", number("faults")},
          {"fault_p50_us", microseconds(number("fault_p50_ns"))},
          {"fault_p99_us", microseconds(number("fault_p99_ns"))},
          {"bytes", number("bytes_read")},
          {"transport", text_of(report, "transport", "tcp")},
          {"registered_bytes", number("registered_bytes")},
          {"front", text_of(report, "front", "preload")}};
}

std::string report_text(const json& report, const std::string& vm, const std::string& destination,
                        uint64_t ram_mib) {
  auto count = [&](const char* key) { return format_count(number_of(report, key)); };
  auto duration = [&](const char* key) { return format_duration(number_of(report, key)); };
  std::string verified;
  if (number_of(report, "pages_verified") > 0) {
    verified = fmt::format("  verified       {} pages\n", count("pages_verified"));
  }
  return fmt::format(
      "{} runs at {}, with all of its memory\n"
      "  blackout       {}\n"
      "  drained after  {}\n"
      "  RAM            {} MiB: {} pages by {} faults, {} precached, {} holes\n"
      "  fault latency  p50 {}, p99 {}, longest {}\n"
      "  transferred    {} by {}\n{}",
      vm, destination, duration("blackout_ns"), duration("drained_ns"), ram_mib,
      count("pages_faulted"), count("faults"), count("pages_precached"), count("pages_hole"),
      duration("fault_p50_ns"), duration("fault_p99_ns"), duration("fault_max_ns"),
      format_bytes(number_of(report, "bytes_read")), text_of(report, "transport", "tcp"), verified);
}

}  // namespace vmhop

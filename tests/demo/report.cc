#include "tests/demo/report.h"

#include <algorithm>
#include <cmath>

#include "cli/format.h"
#include "cli/json_access.h"

namespace vmhop::demo {
namespace {

double decimal(const nlohmann::json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

double rounded(double value) {
  return std::round(value * 1000) / 1000;
}

std::string rate(double bytes_per_second) {
  return fmt::format("{:.1f} MB/s", bytes_per_second / 1e6);
}

std::string share(double part, double whole) {
  return whole > 0 ? fmt::format("{:.0f} %", 100 * part / whole) : "-";
}

}  // namespace

bool Report::verified() const {
  return !checks.empty() && std::all_of(checks.begin(), checks.end(),
                                        [](const Check& check) { return check.held.ok(); });
}

void Report::take_relocation(const nlohmann::json& printed) {
  blackout_ms = decimal(printed, "blackout_ms");
  drained_ms = decimal(printed, "drained_ms");
  ram_mib = number_of(printed, "ram_mib");
  pages_faulted = number_of(printed, "pages_faulted");
  pages_precached = number_of(printed, "pages_precached");
  pages_hole = number_of(printed, "pages_hole");
  fault_p50_us = decimal(printed, "fault_p50_us");
  fault_p99_us = decimal(printed, "fault_p99_us");
  transport = text_of(printed, "transport");
  front = text_of(printed, "front");
}

std::string Report::to_json() const {
  nlohmann::ordered_json json = {{"blackout_ms", rounded(blackout_ms)},
                                 {"guest_gap_ms", rounded(guest_gap_ms)},
                                 {"client_gap_ms", rounded(client_gap_ms)},
                                 {"drained_ms", rounded(drained_ms)},
                                 {"ram_mib", ram_mib},
                                 {"pages_faulted", pages_faulted},
                                 {"pages_precached", pages_precached},
                                 {"pages_hole", pages_hole},
                                 {"fault_p50_us", fault_p50_us},
                                 {"fault_p99_us", fault_p99_us},
                                 {"transport", transport},
                                 {"front", front},
                                 {"source_read_cpu_ms", rounded(costs.source_cpu_ms)},
                                 {"rdma_bytes", costs.rdma_bytes},
                                 {"session_bytes", costs.session_bytes},
                                 {"requests", requests},
                                 {"failed_requests", failed_requests},
                                 {"verified", verified()}};
  return json.dump();
}

std::string Report::to_text() const {
  std::string text;
  auto line = [&](const char* what, const std::string& value, const std::string& remark) {
    text += fmt::format("    {:<24} {:>12}   {}\n", what, value, remark);
  };
  line("blackout", fmt::format("{:.1f} ms", blackout_ms), "source STOP to destination RESUME");
  line("guest stood still", fmt::format("{:.1f} ms", guest_gap_ms),
       "at most, between two heartbeats");
  line("a client waited", fmt::format("{:.1f} ms", client_gap_ms), "at most, between two answers");
  line("drained after", fmt::format("{:.2f} s", drained_ms / 1000),
       "no dependency on the source any more");
  line("pages precached", format_count(pages_precached), fmt::format("of {} MiB of RAM", ram_mib));
  line("pages faulted", format_count(pages_faulted),
       fmt::format("latency p50 {:.0f} µs, p99 {:.0f} µs", fault_p50_us, fault_p99_us));
  line("holes", format_count(pages_hole), "pages that the guest never touched");
  line("pages came by", transport,
       fmt::format("{} by RDMA, {} by TCP; {:.0f} ms of the source's CPU",
                   format_bytes(costs.rdma_bytes), format_bytes(costs.session_bytes),
                   costs.source_cpu_ms));
  line("served before", rate(bytes_per_second_before), "");
  line("in the first second", rate(bytes_per_second_first),
       share(bytes_per_second_first, bytes_per_second_before));
  line("once drained", rate(bytes_per_second_drained),
       share(bytes_per_second_drained, bytes_per_second_before));
  line("requests", format_count(requests), fmt::format("{} failed", failed_requests));
  return text;
}

bool agrees(double vmhop_ms, double qemu_ms) {
  constexpr double kShare = 0.2;
  constexpr double kMs = 1;
  return std::abs(vmhop_ms - qemu_ms) <= kShare * qemu_ms + kMs;
}

}  // namespace vmhop::demo

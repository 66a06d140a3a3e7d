#include "cli/vm_status.h"

#include <filesystem>

#include "backend/base/control_channel.h"
#include "cli/format.h"
#include "cli/json_access.h"
#include "cli/vm_record.h"

namespace vmhop {
namespace {

using nlohmann::json;

constexpr int kAnswerTimeoutMs = 2000;

std::optional<json> ask(const std::string& socket_path) {
  auto channel = ControlChannel::connect(socket_path);
  if (!channel || !channel->send({{"cmd", "status"}})) return std::nullopt;
  auto answer = channel->receive(kAnswerTimeoutMs);
  if (!answer || text_of(answer->body, "event") != "status") return std::nullopt;
  return std::move(answer->body);
}

// What a pager's state is called for people.
const char* arrival_state(const std::string& pager_state) {
  if (pager_state == "waiting") return "waiting";
  if (pager_state == "preparing") return "receiving";
  if (pager_state == "loaded") return "in doubt";
  if (pager_state == "returned") return "given back";
  if (pager_state == "ended") return "ended";
  return "arriving";
}

// A helper's status in the supervisor's shape.
json from_helper(const json& answer, const char* state, const char* peer_key) {
  json status = {{"event", "status"},
                 {"role", text_of(answer, "role") == "pager" ? "receive" : "run"},
                 {"state", state},
                 {"supervisor", false},
                 {"peer", text_of(answer, peer_key)},
                 {"progress", answer}};
  if (answer.contains("blackout_ns")) status["blackout_ns"] = answer["blackout_ns"];
  if (answer.contains("link")) status["link"] = answer["link"];
  return status;
}

json progress_of(const json& status) {
  const json& progress = member_of(status, "progress");
  return progress.is_object() ? progress : json::object();
}

std::string residency(const json& status) {
  json progress = progress_of(status);
  uint64_t total = number_of(progress, "pages_total");
  if (total == 0) return "-";
  return fmt::format("{:.1f} %",
                     std::min(100.0, percent(number_of(progress, "pages_resident"), total)));
}

// fmt pads by characters, and "µs" is one column for each of them.
std::string table_row(const std::string& name, const std::string& state, const std::string& ram,
                      const std::string& peer, const std::string& resident, const std::string& rate,
                      const std::string& faults, const std::string& p50, const std::string& p99) {
  return fmt::format("{:<16} {:<11} {:>10}  {:<22} {:>8}  {:>10}  {:>9}  {:>8}  {:>8}\n", name,
                     state, ram, peer, resident, rate, faults, p50, p99);
}

}  // namespace

std::optional<json> query_vm_status(const VmPaths& paths, const std::string& name) {
  std::error_code ignored;
  if (!std::filesystem::exists(paths.directory(), ignored)) return std::nullopt;
  auto record = read_vm_record(paths.directory());
  std::optional<json> status = ask(paths.control_socket());
  if (status) {
    (*status)["supervisor"] = true;
  } else if (auto exporter = ask(paths.exporter_socket())) {
    status = from_helper(*exporter, "leaving", "destination");
  } else if (auto pager = ask(paths.pager_socket())) {
    status = from_helper(*pager, arrival_state(text_of(*pager, "state")), "source");
  } else {
    bool qemu = record && is_alive(record->qemu);
    status =
        json{{"event", "status"}, {"state", qemu ? "orphaned" : "gone"}, {"supervisor", false}};
  }
  (*status)["vm"] = name;
  if (record && !status->contains("ram_mib")) {
    (*status)["ram_mib"] = ram_bytes(record->regions) >> 20;
    (*status)["page_bytes"] = page_bytes(record->regions);
    (*status)["qemu_pid"] = record->qemu.pid;
  }
  return status;
}

std::string status_table(const std::vector<json>& statuses) {
  std::string table =
      table_row("NAME", "STATE", "RAM", "PEER", "RESIDENT", "RATE", "FAULTS", "P50", "P99");
  for (const json& status : statuses) {
    std::string state = text_of(status, "state");
    if (!flag_of(status, "supervisor", true)) state += "*";
    std::string peer = text_of(status, "peer", text_of(status, "listen", "-"));
    uint64_t rate = number_of(status, "bytes_per_second");
    json progress = progress_of(status);
    table += table_row(
        text_of(status, "vm"), state, fmt::format("{} MiB", number_of(status, "ram_mib")),
        peer.empty() ? "-" : peer, residency(status), rate == 0 ? "-" : format_bytes(rate) + "/s",
        progress.empty() ? "-" : format_count(number_of(progress, "faults")),
        duration_of(progress, "fault_p50_ns"), duration_of(progress, "fault_p99_ns"));
  }
  return table;
}

std::string status_details(const json& status) {
  std::string text;
  auto line = [&](const char* label, const std::string& value) {
    if (!value.empty()) text += fmt::format("{:<16} {}\n", label, value);
  };
  line("name", text_of(status, "vm"));
  line("state", text_of(status, "state"));
  if (!flag_of(status, "supervisor", true)) line("supervisor", "gone");
  line("RAM", fmt::format("{} MiB", number_of(status, "ram_mib")));
  line("front", text_of(status, "front"));
  line("listening on", text_of(status, "listen"));
  line("other side", text_of(status, "peer"));
  if (status.contains("link")) line("link", flag_of(status, "link", true) ? "up" : "down");
  if (uint64_t pid = number_of(status, "pid")) line("supervisor pid", std::to_string(pid));
  if (uint64_t pid = number_of(status, "qemu_pid")) line("QEMU pid", std::to_string(pid));
  if (status.contains("blackout_ns")) {
    line("blackout", format_duration(number_of(status, "blackout_ns")));
  }
  json progress = progress_of(status);
  if (!progress.empty()) {
    auto count = [&](const char* key) { return format_count(number_of(progress, key)); };
    line("resident", fmt::format("{} ({} of {} pages)", residency(status), count("pages_resident"),
                                 count("pages_total")));
    line("arrived", fmt::format("{} by faults, {} precached, {} holes", count("pages_faulted"),
                                count("pages_precached"), count("pages_hole")));
    line("faults", count("faults"));
    line("fault latency",
         fmt::format("p50 {}, p99 {}, longest {}", duration_of(progress, "fault_p50_ns"),
                     duration_of(progress, "fault_p99_ns"), duration_of(progress, "fault_max_ns")));
    line("rate", format_bytes(number_of(status, "bytes_per_second")) + "/s");
  }
  if (status.contains("remaining_ms")) {
    line("to go", format_duration(number_of(status, "remaining_ms") * 1'000'000));
  }
  line("note", text_of(status, "message"));
  return text;
}

}  // namespace vmhop

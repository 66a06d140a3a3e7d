#include "cli/relocation_course.h"

#include <algorithm>
#include <utility>

#include "cli/json_access.h"

namespace vmhop {
namespace {

using nlohmann::json;

// A little less than the pager's own interval, so that each of its first reports counts.
constexpr uint64_t kFirstGapMs = 80;
constexpr size_t kSampleMembers = 7;

bool is_sample(const json& entry) {
  return entry.is_array() && entry.size() == kSampleMembers &&
         std::all_of(entry.begin(), entry.end(),
                     [](const json& value) { return value.is_number_unsigned(); });
}

}  // namespace

const char* course_side_name(CourseSide side) {
  return side == CourseSide::kSource ? "source" : "destination";
}

RelocationCourse::RelocationCourse(const std::string& vm, CourseSide side, const std::string& peer,
                                   const json& facts, uint64_t now_ns)
    : record_{{"version", 1},
              {"vm", vm},
              {"side", course_side_name(side)},
              {"peer", peer},
              {"front", text_of(facts, "front")},
              {"ram_mib", number_of(facts, "ram_mib")},
              {"page_bytes", number_of(facts, "page_bytes")},
              {"started_ns", now_ns},
              {"end", ""},
              {"phases", json::array()},
              {"marks", json::array()},
              {"sample_gap_ms", kFirstGapMs},
              {"samples", json::array()},
              {"last", json::object()}} {
  begin_phase("preparing", now_ns);
}

bool RelocationCourse::can_go_on(const json& record, CourseSide side) {
  const json& phases = member_of(record, "phases");
  const json& samples = member_of(record, "samples");
  return text_of(record, "side") == course_side_name(side) && text_of(record, "end").empty() &&
         number_of(record, "started_ns") > 0 && phases.is_array() && !phases.empty() &&
         member_of(record, "marks").is_array() && member_of(record, "last").is_object() &&
         samples.is_array() && std::all_of(samples.begin(), samples.end(), is_sample);
}

// The wall clock may be set back meanwhile: a relocation's own time does not go below zero.
uint64_t RelocationCourse::since_start(uint64_t time_ns) const {
  uint64_t started = number_of(record_, "started_ns");
  return time_ns > started ? time_ns - started : 0;
}

void RelocationCourse::begin_phase(const char* name, uint64_t time_ns) {
  json& phases = record_["phases"];
  uint64_t at = since_start(time_ns);
  if (!phases.empty()) {
    if (text_of(phases.back(), "name") == name) return;
    at = std::max(at, number_of(phases.back(), "at_ns"));
  }
  phases.push_back({{"name", name}, {"at_ns", at}});
}

void RelocationCourse::mark(const std::string& text, uint64_t now_ns) {
  json& marks = record_["marks"];
  if (marks.size() < kMaxMarks) marks.push_back({{"at_ns", since_start(now_ns)}, {"text", text}});
}

void RelocationCourse::on_event(const json& event, uint64_t now_ns) {
  std::string name = text_of(event, "event");
  std::string message = text_of(event, "message");
  if (name == "progress") {
    sample(event, now_ns);
  } else if (name == "phase") {
    on_phase(event, now_ns);
  } else if (name == "running") {
    on_running(event, now_ns);
  } else if (name == "read_point") {
    begin_phase("switching", now_ns);
  } else if (name == "arrived") {
    begin_phase("arriving", now_ns);
  } else if (name == "transport") {
    record_["transport"] = text_of(event, "transport");
    record_["route"] = text_of(event, "detail");
  } else if (name == "connected") {
    mark("connected with the source", now_ns);
  } else if (name == "link") {
    mark(flag_of(event, "up", true) ? message : "link lost: " + message, now_ns);
  } else if (name == "in_doubt" || name == "given_back" || name == "unresolved" ||
             name == "notice") {
    mark(message, now_ns);
  } else if (name == "drained") {
    const json& report = member_of(event, "report");
    record_["transport"] = text_of(report, "transport");
    take_last_word(report, now_ns);
  }
}

void RelocationCourse::on_phase(const json& event, uint64_t now_ns) {
  std::string phase = text_of(event, "phase");
  uint64_t stopped = number_of(event, "stopped_ns");
  if (phase == "switching") begin_phase("stopping", now_ns);
  // QEMU says when it stopped the VM, and is heard of later.
  if (stopped > 0) begin_phase("blackout", stopped);
  if (phase == "rolling_back") begin_phase("rolling back", now_ns);
  if (phase == "committed") mark("committed", now_ns);
}

void RelocationCourse::on_running(const json& event, uint64_t now_ns) {
  uint64_t blackout = number_of(event, "blackout_ns");
  const json& latest = record_["phases"].back();
  if (blackout > 0 && text_of(latest, "name") == "blackout") {
    record_["blackout_ns"] = blackout;
    uint64_t stopped = number_of(record_, "started_ns") + number_of(latest, "at_ns");
    begin_phase("draining", stopped + blackout);
  } else {
    begin_phase("draining", now_ns);
  }
}

void RelocationCourse::sample(const json& progress, uint64_t now_ns) {
  json last = progress;
  last.erase("event");
  last.erase("regions");
  record_["last"] = std::move(last);
  json& samples = record_["samples"];
  uint64_t at_ms = since_start(now_ns) / 1'000'000;
  if (!samples.empty()) {
    uint64_t before = samples.back().at(0).get<uint64_t>();
    if (at_ms < before + number_of(record_, "sample_gap_ms")) return;
  }
  auto number = [&](const char* key) { return number_of(progress, key); };
  samples.push_back({at_ms, number("pages_resident"), number("pages_total"), number("bytes_read"),
                     number("faults"), number("fault_p50_ns"), number("fault_p99_ns")});
  if (samples.size() >= kMaxSamples) thin_out();
}

// Every second one goes, and from now on they are twice as far apart.
void RelocationCourse::thin_out() {
  json& samples = record_["samples"];
  json kept = json::array();
  for (size_t i = 0; i < samples.size(); i += 2)
    kept.push_back(std::move(samples[i]));
  samples = std::move(kept);
  record_["sample_gap_ms"] = 2 * number_of(record_, "sample_gap_ms");
}

void RelocationCourse::end(const std::string& end, const std::string& message, const json& report,
                           uint64_t now_ns) {
  record_["end"] = end;
  record_["message"] = message;
  record_["ended_ns"] = std::max(now_ns, number_of(record_, "started_ns"));
  if (!text_of(report, "transport").empty()) record_["transport"] = text_of(report, "transport");
  take_last_word(report, now_ns);
}

// What was sampled before it may be a tenth of a second old.
void RelocationCourse::take_last_word(const json& report, uint64_t now_ns) {
  if (!report.is_object()) return;
  json last = member_of(record_, "last");
  last.update(report);
  json gap = std::exchange(record_["sample_gap_ms"], json(0U));
  sample(last, now_ns);
  record_["sample_gap_ms"] = gap;
}

}  // namespace vmhop

#include "cli/report_page.h"

#include <fmt/chrono.h>

#include <algorithm>

#include "cli/format.h"
#include "cli/json_access.h"
#include "cli/report_chart.h"

namespace vmhop {
namespace {

using nlohmann::json;

// No script, no image, no font, nothing from elsewhere: the browser is told to see to that.
constexpr const char* kHead = R"(<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<style>
:root { --back: #ffffff; --text: #1b1f24; --dim: #57606a; --grid: #d8dee4; --card: #f6f8fa;
  --calm: #0969da; --busy: #bc4c00; --stop: #cf222e; --good: #1a7f37; }
@media (prefers-color-scheme: dark) {
  :root { --back: #0d1117; --text: #e6edf3; --dim: #9198a1; --grid: #30363d; --card: #161b22;
    --calm: #4493f8; --busy: #f0883e; --stop: #f85149; --good: #3fb950; }
}
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; background: var(--back);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.verdict { color: var(--dim); margin: .25rem 0 1rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .75rem; }
dl div { background: var(--card); border: 1px solid var(--grid); border-radius: 6px;
  padding: .5rem .75rem; }
dt { color: var(--dim); font-size: .85rem; }
dd { margin: 0; font-size: 1.1rem; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--dim); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--grid); }
.phase rect { fill: var(--calm); }
.phase[data-phase="stopping"] rect, .phase[data-phase="switching"] rect,
.phase[data-phase="rolling back"] rect { fill: var(--busy); }
.phase[data-phase="blackout"] rect { fill: var(--stop); }
.phase[data-phase="draining"] rect, .phase[data-phase="arriving"] rect { fill: var(--good); }
line.mark { stroke: var(--text); stroke-dasharray: 3 3; }
line.quantile { stroke: var(--stop); }
.area { fill: var(--calm); fill-opacity: .2; }
.line { fill: none; stroke: var(--calm); stroke-width: 1.5; }
.bucket { fill: var(--calm); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--grid);
  overflow-wrap: anywhere; }
th { color: var(--dim); font-weight: normal; }
footer { color: var(--dim); margin-top: 2rem; font-size: .85rem; }
</style>
)";

double seconds(uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

// UTC.
std::string date_text(uint64_t realtime_ns) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC",
                     fmt::gmtime(static_cast<std::time_t>(realtime_ns / 1'000'000'000)));
}

struct Sample {
  double at;
  uint64_t resident;
  uint64_t total;
  uint64_t bytes;
  uint64_t faults;
};

// A record's parts, checked.
class Course {
 public:
  explicit Course(const json& record) : record_(record) {
    read_samples();
    read_phases();
    read_marks();
  }

  std::string text(const char* key) const { return text_of(record_, key); }
  uint64_t number(const char* key) const { return number_of(record_, key); }
  uint64_t last(const char* key) const { return number_of(member_of(record_, "last"), key); }
  const json& latency() const { return member_of(member_of(record_, "last"), "fault_latency"); }
  bool at_source() const { return text("side") == "source"; }
  const std::vector<Sample>& samples() const { return samples_; }
  const std::vector<ChartPhase>& phases() const { return phases_; }
  const std::vector<ChartMark>& marks() const { return marks_; }
  TimeRange whole() const { return {0, end_}; }

 private:
  void read_samples();
  void read_phases();
  void read_marks();

  const json& record_;
  std::vector<Sample> samples_;
  std::vector<ChartPhase> phases_;
  std::vector<ChartMark> marks_;
  double end_ = 0;
};

void Course::read_samples() {
  for (const json& entry : member_of(record_, "samples")) {
    bool fine = entry.is_array() && entry.size() >= 5 &&
                std::all_of(entry.begin(), entry.end(),
                            [](const json& value) { return value.is_number_unsigned(); });
    if (!fine) continue;
    samples_.push_back({static_cast<double>(entry[0].get<uint64_t>()) / 1e3,
                        entry[1].get<uint64_t>(), entry[2].get<uint64_t>(),
                        entry[3].get<uint64_t>(), entry[4].get<uint64_t>()});
    end_ = std::max(end_, samples_.back().at);
  }
}

// Each lasts until the next begins, the last one as long as anything is known.
void Course::read_phases() {
  uint64_t started = number("started_ns");
  if (uint64_t ended = number("ended_ns"); ended > started) end_ = seconds(ended - started);
  for (const json& phase : member_of(record_, "phases")) {
    double at = seconds(number_of(phase, "at_ns"));
    if (!phases_.empty()) phases_.back().time.to = at;
    end_ = std::max(end_, at);
    phases_.push_back({text_of(phase, "name"), {at, at}});
  }
  if (!phases_.empty()) phases_.back().time.to = end_;
}

void Course::read_marks() {
  for (const json& mark : member_of(record_, "marks"))
    marks_.push_back({seconds(number_of(mark, "at_ns")), text_of(mark, "text")});
}

std::string verdict_at_source(const Course& course, const std::string& end) {
  std::string vm = course.text("vm");
  std::string peer = course.text("peer");
  std::string why = course.text("message");
  if (end == "drained") return fmt::format("{} runs at {}, with all of its memory.", vm, peer);
  if (end == "stays_here") return fmt::format("{} was not relocated to {}: {}", vm, peer, why);
  if (end == "vm_gone") return fmt::format("{} ended before it was relocated: {}", vm, why);
  if (end == "ended") {
    return fmt::format("{} ended at {} before it was drained: {}", vm, peer, why);
  }
  if (end == "dropped") {
    return fmt::format("The memory of {} was given up before {} had all of it.", vm, peer);
  }
  return fmt::format("{} went to {}; what followed was not seen here any more: {}", vm, peer, why);
}

std::string verdict_at_destination(const Course& course, const std::string& end) {
  std::string vm = course.text("vm");
  std::string why = course.text("message");
  if (end == "drained") return fmt::format("{} is here, with all of its memory.", vm);
  if (end == "ended") return fmt::format("{} ended here before it was drained: {}", vm, why);
  if (end == "did_not_arrive") return fmt::format("{} did not arrive: {}", vm, why);
  return fmt::format("What followed was not seen any more: {}", why);
}

std::string verdict(const Course& course) {
  std::string end = course.text("end");
  if (end.empty()) return "Under way: this page shows it as far as it has come.";
  return course.at_source() ? verdict_at_source(course, end) : verdict_at_destination(course, end);
}

std::string figure(const char* name, const std::string& value) {
  return fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", name, html_escape(value));
}

std::string time_figure(const char* name, uint64_t ns) {
  return ns == 0 ? "" : figure(name, format_duration(ns));
}

std::string figures(const Course& course) {
  auto count = [&](const char* key) { return format_count(course.last(key)); };
  std::string html = "<dl>\n";
  html += time_figure("blackout", course.number("blackout_ns"));
  html += time_figure("drained after", course.last("drained_ns"));
  html += figure("RAM", fmt::format("{} MiB", course.number("ram_mib")));
  html += figure("transferred", format_bytes(course.last("bytes_read")));
  html += figure("faults", count("faults"));
  html += time_figure("fault latency, median", course.last("fault_p50_ns"));
  html += time_figure("fault latency, 99 %", course.last("fault_p99_ns"));
  html += time_figure("longest fault", course.last("fault_max_ns"));
  html += figure("pages by faults", count("pages_faulted"));
  html += figure("pages precached", count("pages_precached"));
  html += figure("pages of zeros", count("pages_hole"));
  if (!course.text("transport").empty()) html += figure("transport", course.text("transport"));
  if (!course.text("front").empty()) html += figure("front", course.text("front"));
  html += figure("began", date_text(course.number("started_ns")));
  return html + "</dl>\n";
}

std::string section(const char* title, const std::string& content) {
  return fmt::format("<section>\n<h2>{}</h2>\n{}</section>\n", title, content);
}

// The blackout is milliseconds of a relocation of seconds: it has a picture of its own.
std::string switch_section(const Course& course) {
  const ChartPhase* stop = nullptr;
  for (const ChartPhase& phase : course.phases()) {
    if (phase.name == "blackout" || phase.name == "switching") stop = &phase;
  }
  if (stop == nullptr) return "";
  double lasted = stop->time.to - stop->time.from;
  double around = std::max(lasted, 0.001);
  // Zero is where it begins.
  ChartFrame frame{"switch", "The phases around the switch", {-around, lasted + around}};
  auto moved = [&](double time) { return time - stop->time.from; };
  std::vector<ChartPhase> phases;
  for (const ChartPhase& phase : course.phases())
    phases.push_back({phase.name, {moved(phase.time.from), moved(phase.time.to)}});
  std::vector<ChartMark> marks;
  for (const ChartMark& mark : course.marks())
    marks.push_back({moved(mark.at), mark.text});
  return section("The switch", phase_chart(frame, phases, marks));
}

// Of a counter, per second, in the middle between two samples.
ChartPoints rate_of(const std::vector<Sample>& samples, uint64_t Sample::*counter) {
  ChartPoints points;
  for (size_t i = 1; i < samples.size(); ++i) {
    double time = samples[i].at - samples[i - 1].at;
    // Two in the same instant say nothing of a rate; a pager that was started again counts anew.
    if (time < 0.02 || samples[i].*counter < samples[i - 1].*counter) continue;
    auto grown = static_cast<double>(samples[i].*counter - samples[i - 1].*counter);
    points.emplace_back((samples[i].at + samples[i - 1].at) / 2, grown / time);
  }
  return points;
}

std::string progress_sections(const Course& course) {
  const auto& samples = course.samples();
  if (samples.size() < 2) return "";
  ChartPoints resident;
  for (const Sample& sample : samples)
    resident.emplace_back(sample.at, percent(sample.resident, sample.total));
  auto whole = course.whole();
  return section("Resident",
                 area_chart({"resident", "Share of the memory that is at the destination", whole},
                            resident, 100,
                            [](double value) { return fmt::format("{:.0f} %", value); })) +
         section("Received", area_chart({"rate", "Bytes received per second", whole},
                                        rate_of(samples, &Sample::bytes), 0,
                                        [](double value) {
                                          return format_bytes(static_cast<uint64_t>(value)) + "/s";
                                        })) +
         section("Faults", area_chart({"faults", "Faults per second", whole},
                                      rate_of(samples, &Sample::faults), 0, [](double value) {
                                        return format_count(static_cast<uint64_t>(value)) + "/s";
                                      }));
}

std::string latency_section(const Course& course) {
  std::vector<LatencyBucket> buckets;
  for (const json& bucket : member_of(course.latency(), "buckets")) {
    bool fine = bucket.is_array() && bucket.size() == 2 && bucket[0].is_number_unsigned() &&
                bucket[1].is_number_unsigned();
    if (fine) buckets.push_back({bucket[0].get<uint64_t>(), bucket[1].get<uint64_t>()});
  }
  if (!course.latency().is_object()) {
    if (!course.at_source()) return "";
    return section("Fault latency",
                   "<p>Its distribution is in the destination's report: the source hears of the "
                   "figures above only.</p>\n");
  }
  if (buckets.empty()) return section("Fault latency", "<p>The VM waited for no page.</p>\n");
  return section("Fault latency",
                 latency_chart({"latency", "How many faults took how long", {}}, buckets,
                               {{"median", course.last("fault_p50_ns")},
                                {"99 %", course.last("fault_p99_ns")}}));
}

std::string time_cell(double at) {
  return fmt::format("<td>{:.3f} s</td>", at);
}

std::string tables(const Course& course) {
  std::string rows;
  for (const ChartPhase& phase : course.phases()) {
    rows += fmt::format("<tr><td>{}</td>{}{}</tr>\n", html_escape(phase.name),
                        time_cell(phase.time.from), time_cell(phase.time.to - phase.time.from));
  }
  std::string html =
      section("Phases",
              fmt::format("<table>\n<tr><th>phase</th><th>began after</th><th>lasted</th></tr>\n{}"
                          "</table>\n",
                          rows));
  if (course.marks().empty()) return html;
  rows.clear();
  for (const ChartMark& mark : course.marks())
    rows += fmt::format("<tr>{}<td>{}</td></tr>\n", time_cell(mark.at), html_escape(mark.text));
  return html + section("Events", fmt::format("<table>\n<tr><th>after</th><th>what</th></tr>\n{}"
                                              "</table>\n",
                                              rows));
}

}  // namespace

std::string report_page(const json& record) {
  Course course(record);
  std::string vm = html_escape(course.text("vm"));
  std::string peer = course.text("peer");
  std::string way = peer.empty() ? "" : (course.at_source() ? " to " : " from ") + peer;
  return fmt::format(
             "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<title>Relocation of {}</title>\n", vm) +
         kHead + "</head>\n<body>\n<main>\n" +
         fmt::format("<h1>{}{}</h1>\n<p class=\"verdict\">{}</p>\n", vm, html_escape(way),
                     html_escape(verdict(course))) +
         figures(course) +
         section("Timeline",
                 phase_chart({"timeline", "The phases of the relocation", course.whole()},
                             course.phases(), course.marks())) +
         switch_section(course) + progress_sections(course) + latency_section(course) +
         tables(course) +
         fmt::format("</main>\n<footer>vmhop {}, as seen by the {}.</footer>\n</body>\n</html>\n",
                     VMHOP_VERSION, course.at_source() ? "source" : "destination");
}

}  // namespace vmhop

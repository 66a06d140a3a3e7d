#include "cli/vm_metrics.h"

#include <algorithm>
#include <array>
#include <optional>

#include "cli/json_access.h"
#include "cli/relocation_records.h"
#include "cli/runtime_dir.h"
#include "cli/vm_status.h"

namespace vmhop {
namespace {

using nlohmann::json;

// docs/protocol-local.md lists them, too.
constexpr std::array kStates = {"starting", "running",    "paused",   "waiting",   "receiving",
                                "in doubt", "given back", "arriving", "preparing", "switching",
                                "leaving",  "unresolved", "ended",    "orphaned",  "gone"};
// The bounds of the latency histogram are powers of two of nanoseconds, from 8 µs to 8.6 s.
constexpr unsigned kFirstBound = 13;
constexpr unsigned kLastBound = 33;

double seconds(uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

// What one VM's status means for a monitor.
class VmFigures {
 public:
  explicit VmFigures(const json& status) : status_(status) {}

  MetricLabels labels() const { return {{"vm", text_of(status_, "vm")}}; }
  std::string state() const { return text_of(status_, "state"); }
  bool supervised() const { return flag_of(status_, "supervisor", true); }
  uint64_t ram() const { return number_of(status_, "ram_mib") << 20; }
  uint64_t reconnects() const { return number_of(status_, "reconnects"); }
  bool knows_link() const { return status_.contains("link"); }
  bool link_up() const { return flag_of(status_, "link", false); }

  // It is being received, and the figures are of its pager.
  bool received() const { return text_of(status_, "role") == "receive"; }
  // Its memory is, or comes, here.
  bool is_here() const {
    std::string now = state();
    return now == "running" || now == "paused" || now == "arriving" || now == "preparing" ||
           now == "switching";
  }
  // It has left, and not all of its memory has.
  bool has_left() const { return state() == "leaving" || state() == "unresolved"; }

  uint64_t missing() const {
    const json& progress = member_of(status_, "progress");
    uint64_t total = number_of(progress, "pages_total");
    uint64_t resident = number_of(progress, "pages_resident");
    return total > resident ? (total - resident) * number_of(status_, "page_bytes") : 0;
  }
  uint64_t missing_here() const { return received() ? std::min(missing(), ram()) : 0; }
  // How its memory came, or comes, here; null for one that was started here.
  const json& arrival() const { return member_of(status_, received() ? "progress" : "arrived"); }

 private:
  const json& status_;
};

using Figures = std::vector<VmFigures>;

void write_build(MetricsText& text) {
  text.begin({"vmhop_build", MetricType::kInfo, "", "The vmhop that is installed here."});
  text.sample({{"version", VMHOP_VERSION}}, uint64_t{1});
}

void write_states(MetricsText& text, const Figures& vms) {
  text.begin({"vmhop_vm_state", MetricType::kGauge, "",
              "1 for the state that the VM is in, 0 for all others."});
  for (const VmFigures& vm : vms) {
    for (const char* state : kStates) {
      MetricLabels labels = vm.labels();
      labels.emplace_back("state", state);
      text.sample(labels, uint64_t{vm.state() == state ? 1U : 0U});
    }
  }
  text.begin({"vmhop_vm_supervised", MetricType::kGauge, "",
              "Whether the VM's supervisor is alive; vmhop recover brings another."});
  for (const VmFigures& vm : vms)
    text.sample(vm.labels(), uint64_t{vm.supervised() ? 1U : 0U});
}

void write_memory(MetricsText& text, const Figures& vms) {
  text.begin({"vmhop_vm_ram_bytes", MetricType::kGauge, "bytes", "The VM's RAM."});
  for (const VmFigures& vm : vms)
    text.sample(vm.labels(), vm.ram());
  text.begin({"vmhop_vm_resident_bytes", MetricType::kGauge, "bytes",
              "RAM of a VM that runs here which needs no other host any more."});
  for (const VmFigures& vm : vms) {
    if (vm.is_here()) text.sample(vm.labels(), vm.ram() - vm.missing_here());
  }
  text.begin({"vmhop_vm_missing_bytes", MetricType::kGauge, "bytes",
              "RAM of a VM that runs here which is still at the host that it came from."});
  for (const VmFigures& vm : vms) {
    if (vm.is_here()) text.sample(vm.labels(), vm.missing_here());
  }
  text.begin({"vmhop_source_remaining_bytes", MetricType::kGauge, "bytes",
              "RAM of a VM that has left which its destination has not fetched yet."});
  for (const VmFigures& vm : vms) {
    if (vm.has_left()) text.sample(vm.labels(), vm.missing());
  }
}

void write_link(MetricsText& text, const Figures& vms) {
  text.begin({"vmhop_link_up", MetricType::kGauge, "",
              "Whether the other side of a relocation is connected."});
  for (const VmFigures& vm : vms) {
    if (vm.knows_link()) text.sample(vm.labels(), uint64_t{vm.link_up() ? 1U : 0U});
  }
  text.begin({"vmhop_reconnects", MetricType::kCounter, "",
              "How often a lost connection to the other side came back."});
  for (const VmFigures& vm : vms) {
    if (vm.supervised()) text.sample(vm.labels(), vm.reconnects());
  }
}

void write_arrivals(MetricsText& text, const Figures& vms) {
  auto counter = [&](const char* name, const char* unit, const char* help, const char* key) {
    text.begin({name, MetricType::kCounter, unit, help});
    for (const VmFigures& vm : vms) {
      if (vm.arrival().is_object()) text.sample(vm.labels(), number_of(vm.arrival(), key));
    }
  };
  counter("vmhop_received_bytes", "bytes", "Page data received for the VM.", "bytes_read");
  counter("vmhop_faults", "", "Times that the VM waited for a page.", "faults");
  text.begin({"vmhop_pages_received", MetricType::kCounter, "",
              "Pages that came, by what brought them: a fault, precaching, or nothing but the "
              "word that they are zeros."});
  constexpr std::array<std::pair<const char*, const char*>, 3> kWays = {
      {{"fault", "pages_faulted"}, {"precaching", "pages_precached"}, {"zeros", "pages_hole"}}};
  for (const VmFigures& vm : vms) {
    if (!vm.arrival().is_object()) continue;
    for (const auto& [way, key] : kWays) {
      MetricLabels labels = vm.labels();
      labels.emplace_back("by", way);
      text.sample(labels, number_of(vm.arrival(), key));
    }
  }
}

// Cumulative, as Prometheus has them, of counts by bucket.
void write_latency_of(MetricsText& text, const VmFigures& vm) {
  const json& latency = member_of(vm.arrival(), "fault_latency");
  const json& counted = member_of(latency, "buckets");
  if (!counted.is_array()) return;
  std::vector<MetricBucket> buckets;
  for (unsigned bits = kFirstBound; bits <= kLastBound; ++bits)
    buckets.push_back({seconds((uint64_t{1} << bits) - 1), 0});
  uint64_t count = 0;
  for (const json& bucket : counted) {
    if (!bucket.is_array() || bucket.size() != 2) continue;
    auto upper_ns = bucket[0].is_number() ? bucket[0].get<uint64_t>() : 0;
    auto here = bucket[1].is_number() ? bucket[1].get<uint64_t>() : 0;
    count += here;
    for (unsigned bits = kFirstBound; bits <= kLastBound; ++bits) {
      if (upper_ns < uint64_t{1} << bits) buckets[bits - kFirstBound].cumulative += here;
    }
  }
  text.histogram(vm.labels(), buckets, count, seconds(number_of(latency, "sum_ns")));
}

void write_latency(MetricsText& text, const Figures& vms) {
  text.begin({"vmhop_fault_latency_seconds", MetricType::kHistogram, "seconds",
              "How long it took from a fault to its page, of faults that had one fetched."});
  for (const VmFigures& vm : vms)
    write_latency_of(text, vm);
}

MetricLabels labels_of(const json& record) {
  return {{"vm", text_of(record, "vm")}, {"side", text_of(record, "side")}};
}

bool is_over(const json& record) {
  return !text_of(record, "end").empty();
}

void write_records(MetricsText& text, const std::vector<json>& records) {
  auto gauge = [&](const char* name, const char* unit, const char* help, auto value) {
    text.begin({name, MetricType::kGauge, unit, help});
    for (const json& record : records) {
      if (auto now = value(record)) text.sample(labels_of(record), *now);
    }
  };
  using Number = std::optional<double>;
  gauge("vmhop_last_relocation_start_time_seconds", "seconds",
        "When the VM's last relocation from or to this host began, as Unix time.",
        [](const json& record) -> Number { return seconds(number_of(record, "started_ns")); });
  gauge("vmhop_last_relocation_success", "",
        "1 if the VM's last relocation ended with all of its memory at the destination, else 0.",
        [](const json& record) -> std::optional<uint64_t> {
          if (!is_over(record)) return std::nullopt;
          return uint64_t{text_of(record, "end") == "drained" ? 1U : 0U};
        });
  gauge("vmhop_last_relocation_blackout_seconds", "seconds",
        "How long the VM ran nowhere, from its stop at the source to its start at the "
        "destination; only the source knows.",
        [](const json& record) -> Number {
          uint64_t blackout = number_of(record, "blackout_ns");
          if (blackout == 0) return std::nullopt;
          return seconds(blackout);
        });
  gauge("vmhop_last_relocation_drained_seconds", "seconds",
        "How long it took from the VM's start at the destination until all of its memory was "
        "there.",
        [](const json& record) -> Number {
          uint64_t drained = number_of(member_of(record, "last"), "drained_ns");
          if (drained == 0) return std::nullopt;
          return seconds(drained);
        });
}

}  // namespace

std::string vm_metrics(const std::vector<json>& statuses, const std::vector<json>& records,
                       MetricsFormat format) {
  Figures vms(statuses.begin(), statuses.end());
  MetricsText text(format);
  write_build(text);
  write_states(text, vms);
  write_memory(text, vms);
  write_link(text, vms);
  write_arrivals(text, vms);
  write_latency(text, vms);
  write_records(text, records);
  return text.finish();
}

std::string host_metrics(const std::string& base, MetricsFormat format) {
  std::vector<json> statuses;
  for (const std::string& name : list_vm_names(base)) {
    if (auto status = query_vm_status(VmPaths(base, name), name)) {
      statuses.push_back(std::move(*status));
    }
  }
  return vm_metrics(statuses, load_relocation_records(base), format);
}

}  // namespace vmhop

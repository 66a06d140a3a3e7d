#include "bench/floors.h"

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/lab/vmhop_host.h"

namespace vmhop::bench {
namespace {

using namespace std::chrono_literals;

class ScratchDirectory {
 public:
  static Result<ScratchDirectory> create() {
    std::string path = "/tmp/vmhop-bench-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return Error::from_errno("mkdtemp " + path, errno);
    return ScratchDirectory(path);
  }
  ScratchDirectory(ScratchDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchDirectory& operator=(ScratchDirectory&&) = delete;
  ~ScratchDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  explicit ScratchDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

Result<std::string> beside_this(const std::string& program) {
  std::error_code failed;
  auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed) return Error("/proc/self/exe: " + failed.message());
  return (self.parent_path() / program).string();
}

// The report with which it ends.
Result<nlohmann::json> report_of(const std::vector<std::string>& argv) {
  VMHOP_ASSIGN(ScratchDirectory directory, ScratchDirectory::create());
  lab::ProcessSpec spec;
  spec.argv = argv;
  spec.output = directory.path() + "/run";
  VMHOP_ASSIGN(lab::Process process, lab::Process::start(spec));
  VMHOP_ASSIGN(lab::Finished finished, lab::finish(process, lab::within(10min)));
  nlohmann::json report = finished.json();
  if (!finished.status.clean() || !report.is_object()) {
    return Error(spec.argv[0] + ": " + finished.describe());
  }
  return report;
}

Result<Comparison> compared(int row, const char* figure, const char* workload, const char* link,
                            const nlohmann::json& ours, const nlohmann::json& theirs) {
  if (!ours.is_number() || !theirs.is_number()) {
    return errorf("{} of {} is not in the report", figure, workload);
  }
  return Comparison{row, figure, workload, link, 0, ours.get<double>(), theirs.get<double>(), {}};
}

// Where there is RDMA.
std::vector<std::string> in_lab(std::vector<std::string> argv) {
  std::vector<std::string> lab = {std::string(VMHOP_LAB_SOURCES) + "/ci/rxe-lab", "--timeout",
                                  "500", "--"};
  argv.insert(argv.begin(), lab.begin(), lab.end());
  return argv;
}

Result<std::vector<Comparison>> faults(const std::vector<std::string>& argv, const char* link) {
  VMHOP_ASSIGN(auto report, report_of(argv));
  VMHOP_ASSIGN(Comparison alone, compared(3, "fault_p50_us", "fault", link, report["fault_p50_us"],
                                          report["floor_p50_us"]));
  VMHOP_ASSIGN(Comparison beside_bulk,
               compared(4, "fault_p99_us", "fault", link, report["fault_precaching_p99_us"],
                        report["fault_p99_us"]));
  return std::vector{alone, beside_bulk};
}

}  // namespace

Result<std::vector<Comparison>> faults_by_tcp() {
  VMHOP_ASSIGN(std::string fault, beside_this("fault"));
  return faults({fault, "--json"}, "loopback");
}

Result<std::vector<Comparison>> faults_by_rdma() {
  VMHOP_ASSIGN(std::string fault, beside_this("fault"));
  // A round takes ten times as long there.
  return faults(in_lab({fault, "--transport", "rdma", "--rounds", "2", "--json"}), "rxe");
}

Result<std::vector<Comparison>> reads_by_rdma() {
  constexpr uint64_t kPrecachersWindow = 1 << 20;
  VMHOP_ASSIGN(std::string rdma_read, beside_this("rdma_read"));
  VMHOP_ASSIGN(auto report, report_of(in_lab({rdma_read, "--json"})));
  nlohmann::json alone;
  nlohmann::json beside_bulk;
  for (const auto& row : report["faults"]) {
    if (row["outstanding"] == 0) alone = row;
    if (row["outstanding"] == kPrecachersWindow) beside_bulk = row;
  }
  VMHOP_ASSIGN(Comparison median, compared(3, "fault_p50_us", "fault read", "rxe",
                                           alone["source_p50_us"], alone["bare_p50_us"]));
  VMHOP_ASSIGN(Comparison tail, compared(4, "fault_p99_us", "fault read", "rxe",
                                         beside_bulk["source_p99_us"], alone["source_p99_us"]));
  VMHOP_ASSIGN(Comparison bulk, compared(7, "precache_mb_s", "bulk read", "rxe",
                                         report["bulk_source_mb_s"], report["bulk_bare_mb_s"]));
  return std::vector{median, tail, bulk};
}

}  // namespace vmhop::bench

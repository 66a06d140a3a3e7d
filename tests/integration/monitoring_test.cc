// What an operator is told of a relocation: metrics, the report, and logs.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "cli/exit_codes.h"
#include "tests/cli/browser.h"
#include "tests/cli/openmetrics.h"
#include "tests/integration/hop_test.h"

namespace vmhop::lab {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

using Metrics = std::vector<ReadFamily>;

class Monitoring : public HopTest {
 protected:
  static Result<Metrics> metrics_of(const VmhopHost& host) {
    VMHOP_ASSIGN(Finished finished, host.command({"metrics"}));
    if (!finished.status.clean()) return Error("vmhop metrics: " + finished.describe());
    return parse_openmetrics(finished.out);
  }
  static double value(const Metrics& metrics, const std::string& name, LabelSet labels = {}) {
    labels["vm"] = kVm;
    auto found = value_of(metrics, name, labels);
    EXPECT_TRUE(found) << name;
    return found.value_or(-1);
  }
  static bool has(const Metrics& metrics, const std::string& name) {
    return value_of(metrics, name, {{"vm", kVm}}).has_value();
  }
  // `vmhop report`, once there is one: it is kept once a second.
  static Result<nlohmann::json> report_of(const VmhopHost& host) {
    auto deadline = within(30s);
    for (;;) {
      VMHOP_ASSIGN(Finished finished, host.command({"report", kVm, "--json"}));
      if (finished.status.clean()) return finished.json();
      if (milliseconds_until(deadline) == 0) return Error("vmhop report: " + finished.describe());
      std::this_thread::sleep_for(50ms);
    }
  }
  void check_while_it_is_under_way();
  void check_metrics_afterwards(const nlohmann::json& relocation);
  // The page as a browser draws it.
  void check_page(const VmhopHost& host, const std::vector<std::string>& phases);

  double faults_so_far_ = 0;
};

void Monitoring::check_while_it_is_under_way() {
  ASSERT_VALUE(Metrics there, metrics_of(*destination_));
  // The first news may have come before the first fault was answered.
  for (auto deadline = within(30s); milliseconds_until(deadline) > 0;) {
    if (value(there, "vmhop_fault_latency_seconds_count") > 0) break;
    std::this_thread::sleep_for(20ms);
    ASSERT_VALUE(there, metrics_of(*destination_));
  }
  EXPECT_EQ(value(there, "vmhop_vm_state", {{"state", "arriving"}}), 1);
  double missing = value(there, "vmhop_vm_missing_bytes");
  EXPECT_GT(missing, 0);
  EXPECT_EQ(missing + value(there, "vmhop_vm_resident_bytes"), value(there, "vmhop_vm_ram_bytes"));
  faults_so_far_ = value(there, "vmhop_faults_total");
  EXPECT_GT(faults_so_far_, 0);
  EXPECT_GT(value(there, "vmhop_received_bytes_total"), 0);
  EXPECT_GT(value(there, "vmhop_fault_latency_seconds_count"), 0);
  EXPECT_GT(value(there, "vmhop_fault_latency_seconds_sum"), 0);
  EXPECT_EQ(value(there, "vmhop_link_up"), 1);

  ASSERT_VALUE(Metrics here, metrics_of(*source_));
  EXPECT_EQ(value(here, "vmhop_vm_state", {{"state", "leaving"}}), 1);
  EXPECT_GT(value(here, "vmhop_source_remaining_bytes"), 0);
  EXPECT_FALSE(has(here, "vmhop_vm_missing_bytes"));

  ASSERT_VALUE(nlohmann::json report, report_of(*source_));
  EXPECT_EQ(report.at("end"), "");
  EXPECT_FALSE(report.at("samples").empty());
}

void Monitoring::check_metrics_afterwards(const nlohmann::json& relocation) {
  ASSERT_VALUE(Metrics there, metrics_of(*destination_));
  EXPECT_EQ(value(there, "vmhop_vm_state", {{"state", "running"}}), 1);
  EXPECT_EQ(value(there, "vmhop_vm_missing_bytes"), 0);
  EXPECT_EQ(value(there, "vmhop_vm_resident_bytes"), value(there, "vmhop_vm_ram_bytes"));
  EXPECT_EQ(value(there, "vmhop_last_relocation_success", {{"side", "destination"}}), 1);
  double faults = value(there, "vmhop_faults_total");
  EXPECT_GE(faults, faults_so_far_) << "a counter went back";
  EXPECT_EQ(faults, relocation.at("faults"));
  // Each fault that was answered has its latency.
  EXPECT_GT(value(there, "vmhop_fault_latency_seconds_count"), 0);
  EXPECT_LE(value(there, "vmhop_fault_latency_seconds_count"), faults);

  ASSERT_VALUE(Metrics here, metrics_of(*source_));
  EXPECT_FALSE(has(here, "vmhop_vm_ram_bytes")) << "the VM is gone from the source";
  EXPECT_NEAR(value(here, "vmhop_last_relocation_blackout_seconds", {{"side", "source"}}) * 1000,
              relocation.at("blackout_ms").get<double>(), 0.001);
  EXPECT_NEAR(value(here, "vmhop_last_relocation_drained_seconds", {{"side", "source"}}) * 1000,
              relocation.at("drained_ms").get<double>(), 0.001);
}

void Monitoring::check_page(const VmhopHost& host, const std::vector<std::string>& phases) {
  std::string file = host.directory() + "/report.html";
  ASSERT_VALUE(Finished written, host.command({"report", kVm, "--output", file}));
  ASSERT_TRUE(written.status.clean()) << written.describe();
  ASSERT_VALUE(nlohmann::json seen, look_at_page(file));
  EXPECT_THAT(seen.at("complaints"), IsEmpty()) << seen.at("complaints");
  std::vector<std::string> drawn;
  for (const nlohmann::json& phase : seen.at("phases")) {
    if (phase.at("chart") == "timeline") drawn.push_back(phase.at("name"));
    EXPECT_TRUE(phase.at("seen").get<bool>()) << phase;
    EXPECT_GT(phase.at("width").get<double>(), 1) << phase;
  }
  EXPECT_EQ(drawn, phases);
  EXPECT_EQ(seen.at("paths"), 3);
}

TEST_F(Monitoring, OfARelocationIsRightOnBothSides) {
  ASSERT_OK(relocate_slowly());
  ASSERT_NO_FATAL_FAILURE(check_while_it_is_under_way());
  ASSERT_OK(speed_up());
  ASSERT_VALUE(Finished relocated, finish(*relocating_, within(60s)));
  ASSERT_TRUE(relocated.status.clean()) << relocated.describe();
  ASSERT_OK(runs_at_destination());
  ASSERT_OK(nothing_left_at("source"));
  ASSERT_NO_FATAL_FAILURE(check_metrics_afterwards(relocated.json()));
  check_page(*source_, {"preparing", "stopping", "blackout", "draining"});
  check_page(*destination_, {"preparing", "switching", "arriving"});
}

TEST_F(Monitoring, WritesFilesThatOthersCanReadInOneStep) {
  std::string directory = source_->directory() + "/collected";
  std::filesystem::create_directory(directory);
  std::string file = directory + "/vmhop.prom";
  ASSERT_VALUE(Finished written,
               source_->command({"metrics", "--format", "prometheus", "--output", file}));
  ASSERT_TRUE(written.status.clean()) << written.describe();
  EXPECT_EQ(written.out, "");
  struct stat info {};
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0644U);
  ASSERT_VALUE(std::string text, read_file(file, 1 << 20));
  EXPECT_NE(text.find("# TYPE vmhop_faults_total counter"), std::string::npos);
  std::filesystem::directory_iterator all(directory);
  EXPECT_EQ(std::distance(begin(all), end(all)), 1) << "nothing else is left there";

  ASSERT_VALUE(Finished failed, source_->command({"metrics", "--output", "/nowhere/vmhop.prom"}));
  EXPECT_EQ(failed.status.shell_code(), kExitFailed);
  EXPECT_NE(failed.err.find("/nowhere"), std::string::npos) << failed.err;
  ASSERT_VALUE(Finished device, source_->command({"metrics", "--output", "/dev/null"}));
  EXPECT_EQ(device.status.shell_code(), kExitRefused) << device.describe();
}

TEST_F(Monitoring, KnowsNoReportOfAVmThatNeverHopped) {
  ASSERT_VALUE(Finished none, source_->command({"report", "nobody"}));
  EXPECT_EQ(none.status.shell_code(), kExitFailed);
  EXPECT_NE(none.err.find("no relocation of nobody is known here"), std::string::npos) << none.err;
}

class JsonLogs : public HopTest {
 protected:
  void SetUp() override {
    HopTest::SetUp();
    if (HasFatalFailure()) return;
    std::string config = network_->directory() + "/vmhop.conf";
    std::ofstream(config) << "log-format = json\n";
    for (VmhopHost* host : {&*source_, &*destination_})
      host->set_environment("VMHOP_CONFIG", config);
  }
  // Every line is an object; their roles.
  static std::set<std::string> roles_in(const std::string& log, const char* vm) {
    std::set<std::string> roles;
    std::istringstream lines(log);
    for (std::string line; std::getline(lines, line);) {
      auto entry = nlohmann::json::parse(line, nullptr, false);
      EXPECT_TRUE(entry.is_object()) << line;
      if (!entry.is_object()) continue;
      for (const char* member : {"time", "level", "role", "pid", "message"})
        EXPECT_TRUE(entry.contains(member)) << line;
      EXPECT_EQ(entry.value("vm", ""), vm) << line;
      roles.insert(entry.value("role", ""));
    }
    return roles;
  }
};

TEST_F(JsonLogs, AreAllThatSupervisorsPagersAndCommandsSay) {
  ASSERT_OK(boot());
  BaremetalGuest other = guest_;
  other.ram_mib *= 2;
  ASSERT_OK(await(other));
  ASSERT_VALUE(Finished refused, relocate());
  EXPECT_EQ(refused.status.shell_code(), kExitRefused);
  EXPECT_THAT(roles_in(refused.err, kVm), ElementsAre("command"));
  // The pager says whom it turned away.
  ASSERT_OK(receiving_->wait_for_err(
      [](auto text) { return count_of(text, R"("role":"pager")") > 0; }, within(30s)));
  EXPECT_THAT(roles_in(receiving_->err(), kVm), ElementsAre("pager", "supervisor"));
  EXPECT_THAT(roles_in(running_->err(), kVm), ElementsAre("supervisor"));
  ASSERT_VALUE(Finished wrong, source_->command({"fly"}));
  EXPECT_EQ(wrong.status.shell_code(), kExitUsage);
  EXPECT_THAT(roles_in(wrong.err, ""), ElementsAre("command"));
}

TEST_F(JsonLogs, AreWhatAnExporterSays) {
  ASSERT_VALUE(running_,
               source_->run(kVm, guest_.qemu_command(source_->place()), {"--log-level", "debug"}));
  ASSERT_OK(console_->attach(source_->place().console, within(60s)));
  ASSERT_OK(await());
  ASSERT_OK(slow_down());
  ASSERT_VALUE(relocating_, start_relocation());
  ASSERT_OK(wait_for_state(*source_, "leaving"));
  ASSERT_OK(wait_for_state(*destination_, "arriving"));
  // Nobody listens there any more, so the exporter dials in vain.
  ASSERT_OK(kill(*destination_, &VmRecord::supervisor));
  ASSERT_OK(kill(*destination_, &VmRecord::pager));
  ASSERT_OK(running_->wait_for_err(
      [](auto text) { return count_of(text, R"("role":"exporter")") > 0; }, within(60s)));
  EXPECT_THAT(roles_in(running_->err(), kVm), ElementsAre("exporter", "supervisor"));
}

}  // namespace
}  // namespace vmhop::lab

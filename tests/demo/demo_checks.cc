// What must hold for the demo to have succeeded, and what is shown when it does not.
#include <filesystem>
#include <fstream>

#include "cli/json_access.h"
#include "tests/demo/demo.h"
#include "tests/lab/witness_log.h"

namespace vmhop::demo {

namespace fs = std::filesystem;

Status Demo::memory_is_right() const {
  auto witness = lab::read_witness(console_->log().lines());
  if (witness.errors > 0 || !witness.complaints.empty()) return Error(witness.describe());
  if (witness.passes < passes_when_drained_ + 2) {
    return errorf("the witness made no full pass after drained: {}", witness.describe());
  }
  return ok_status();
}

Status Demo::heartbeats_are_whole() const {
  auto witness = lab::read_witness(console_->log().lines());
  if (!witness.sound()) return Error(witness.describe());
  return ok_status();
}

Status Demo::clients_were_served() const {
  if (report_.failed_requests == 0) return ok_status();
  std::string causes;
  for (const std::string& complaint : probe_->report().complaints)
    causes += "\n  " + complaint;
  return errorf("{} of {} failed{}", report_.failed_requests, report_.requests, causes);
}

Status Demo::nothing_left_at_source() {
  VMHOP_ASSIGN(lab::Finished ended, lab::finish(*running_, within(std::chrono::seconds(30))));
  if (!ended.status.clean()) return Error("vmhop run: " + ended.describe());
  VMHOP_TRY(venue_->nothing_runs_on(*source_));
  std::error_code ignored;
  for (const auto& left : fs::directory_iterator(source_->runtime_directory(), ignored)) {
    // But for what `vmhop report` tells of it.
    if (left.path().filename() != ".relocations") return errorf("{} is left", left.path().string());
  }
  return ok_status();
}

Status Demo::destination_serves_on() const {
  VMHOP_ASSIGN(nlohmann::json status, destination_->status("web"));
  if (text_of(status, "state") != "running") return Error("vmhop status: " + status.dump());
  return ok_status();
}

std::string Demo::ends_of_logs() const {
  if (!venue_) return "";
  std::string text;
  for (const char* host : {"source", "destination"}) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(venue_->directory() + "/" + host, ignored)) {
      if (entry.path().extension() != ".err") continue;
      auto log = read_file(entry.path(), size_t{16} << 20);
      if (!log || log->empty()) continue;
      text += fmt::format("--- {} {}\n{}\n", host, entry.path().stem().string(),
                          lab::last_lines(*log, 12));
    }
  }
  if (!console_) return text;
  std::string console;
  for (const lab::Line& line : console_->log().lines())
    console += fmt::format("{}: {}\n", line.stream == 0 ? "source" : "destination", line.text);
  return text + "--- the guest's console\n" + lab::last_lines(console, 12) + "\n";
}

Status Demo::keep_logs(const std::string& directory) const {
  if (!venue_) return ok_status();
  try {
    fs::create_directories(directory);
    for (const char* host : {"source", "destination"}) {
      for (const auto& entry : fs::directory_iterator(venue_->directory() + "/" + host)) {
        auto extension = entry.path().extension();
        if (extension != ".err" && extension != ".out") continue;
        fs::copy_file(
            entry.path(),
            fs::path(directory) / fmt::format("{}-{}", host, entry.path().filename().string()),
            fs::copy_options::overwrite_existing);
      }
    }
  } catch (const fs::filesystem_error& error) {
    return errorf("keeping logs: {}", error.what());
  }
  if (!console_) return ok_status();
  std::ofstream file(directory + "/console");
  for (const lab::Line& line : console_->log().lines()) {
    file << fmt::format("{:.6f} {} {}\n",
                        std::chrono::duration<double>(line.at.time_since_epoch()).count(),
                        line.stream, line.text);
  }
  return file ? ok_status() : Status(Error("keeping the console's log failed"));
}

}  // namespace vmhop::demo

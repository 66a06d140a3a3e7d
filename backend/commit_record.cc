#include "backend/commit_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "backend/base/fd.h"

namespace vmhop {
namespace {

std::string record_path(const std::string& runtime_dir) {
  return runtime_dir + "/commit";
}

Status sync_directory(const std::string& path) {
  UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return Error::from_errno("opening " + path, errno);
  if (::fsync(directory.get()) != 0) return Error::from_errno("syncing " + path, errno);
  return ok_status();
}

Result<CommitOutcome> parse_outcome(const std::string& name) {
  for (auto outcome :
       {CommitOutcome::kPending, CommitOutcome::kReleased, CommitOutcome::kReturned}) {
    if (name == commit_outcome_name(outcome)) return outcome;
  }
  return errorf("a commit record's outcome is '{}'", name);
}

}  // namespace

std::string to_hex(const RelocationId& id) {
  std::string text;
  for (uint8_t byte : id)
    text += fmt::format("{:02x}", byte);
  return text;
}

const char* commit_outcome_name(CommitOutcome outcome) {
  switch (outcome) {
    case CommitOutcome::kPending:
      return "pending";
    case CommitOutcome::kReleased:
      return "released";
    case CommitOutcome::kReturned:
      return "returned";
  }
  return "invalid";
}

Result<RelocationId> relocation_id_from_hex(const std::string& text) {
  RelocationId id{};
  bool is_hex = text.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (text.size() != id.size() * 2 || !is_hex) {
    return Error("a relocation's id has 32 hexadecimal digits");
  }
  for (size_t i = 0; i < id.size(); ++i)
    id[i] = static_cast<uint8_t>(std::stoul(text.substr(i * 2, 2), nullptr, 16));
  return id;
}

Status write_commit_record(const std::string& runtime_dir, const CommitRecord& record) {
  nlohmann::json body = {{"version", 1},
                         {"relocation", to_hex(record.relocation)},
                         {"destination", record.destination},
                         {"was_running", record.before_stop == RunState::kRunning},
                         {"outcome", commit_outcome_name(record.outcome)}};
  std::string text = body.dump() + "\n";
  std::string path = record_path(runtime_dir);
  std::string draft = path + ".new";
  UniqueFd file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file.valid()) return Error::from_errno("creating " + draft, errno);
  VMHOP_TRY(write_all(file.get(), std::as_bytes(std::span(text))));
  if (::fsync(file.get()) != 0) return Error::from_errno("syncing " + draft, errno);
  if (::rename(draft.c_str(), path.c_str()) != 0) {
    return Error::from_errno("renaming " + draft, errno);
  }
  return sync_directory(runtime_dir);
}

Result<std::optional<CommitRecord>> read_commit_record(const std::string& runtime_dir) {
  std::string path = record_path(runtime_dir);
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return std::optional<CommitRecord>();
  VMHOP_ASSIGN(std::string text, read_file(path, 64 * 1024));
  try {
    auto body = nlohmann::json::parse(text);
    if (body.at("version") != 1) {
      return errorf("{} is not a commit record of this version of vmhop", path);
    }
    CommitRecord record;
    VMHOP_ASSIGN(record.relocation, relocation_id_from_hex(body.at("relocation")));
    record.destination = body.at("destination");
    record.before_stop = body.at("was_running") ? RunState::kRunning : RunState::kPaused;
    VMHOP_ASSIGN(record.outcome, parse_outcome(body.at("outcome")));
    return std::optional(record);
  } catch (const nlohmann::json::exception& broken) {
    return errorf("{} is damaged: {}", path, broken.what());
  }
}

Status remove_commit_record(const std::string& runtime_dir) {
  std::string path = record_path(runtime_dir);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Error::from_errno("removing " + path, errno);
  }
  return sync_directory(runtime_dir);
}

}  // namespace vmhop

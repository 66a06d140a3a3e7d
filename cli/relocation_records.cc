#include "cli/relocation_records.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "backend/base/fd.h"
#include "backend/base/json_text.h"
#include "cli/json_access.h"
#include "cli/runtime_dir.h"

namespace vmhop {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kSuffix = ".json";

// No VM's name begins with a dot.
std::string directory_in(const std::string& base) {
  return base + "/.relocations";
}

std::string path_of(const std::string& base, const std::string& vm) {
  return directory_in(base) + "/" + vm + kSuffix;
}

void forget_the_oldest(const std::string& base) {
  std::vector<std::pair<fs::file_time_type, fs::path>> records;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory_in(base), ignored)) {
    if (entry.path().extension() == kSuffix)
      records.emplace_back(entry.last_write_time(ignored), entry.path());
  }
  if (records.size() <= kMaxRelocationRecords) return;
  std::sort(records.begin(), records.end());
  records.resize(records.size() - kMaxRelocationRecords);
  for (const auto& [time, path] : records)
    fs::remove(path, ignored);
}

}  // namespace

Status save_relocation_record(const std::string& base, const std::string& vm, const json& record) {
  VMHOP_TRY(check_vm_name(base, vm));
  std::string directory = directory_in(base);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::from_errno("making the directory " + directory, errno);
  }
  std::string text = record.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  VMHOP_TRY(replace_file(path_of(base, vm), text));
  forget_the_oldest(base);
  return ok_status();
}

std::optional<json> load_relocation_record(const std::string& base, const std::string& vm) {
  if (!check_vm_name(base, vm)) return std::nullopt;
  auto text = read_file(path_of(base, vm), kMaxRecord);
  if (!text) return std::nullopt;
  json record = parse_json(*text);
  if (!record.is_object() || number_of(record, "version") != 1) return std::nullopt;
  return record;
}

std::vector<json> load_relocation_records(const std::string& base) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory_in(base), ignored)) {
    if (entry.path().extension() == kSuffix) names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  std::vector<json> records;
  for (const std::string& name : names) {
    if (auto record = load_relocation_record(base, name)) records.push_back(std::move(*record));
  }
  return records;
}

}  // namespace vmhop

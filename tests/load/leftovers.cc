#include "tests/load/leftovers.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "backend/base/fd.h"

namespace vmhop::load {
namespace {

namespace fs = std::filesystem;

// An allocator keeps what it was given for one use; the next uses it again. Shared memory is the
// whole machine's.
constexpr uint64_t kMappingsMore = 8;
constexpr uint64_t kPrivateKibMore = 2048;
constexpr uint64_t kSharedKibMore = 16 * 1024;

constexpr size_t kMaxProcFile = 8 << 20;

uint64_t entries_in(const std::string& directory) {
  std::error_code ignored;
  return static_cast<uint64_t>(
      std::distance(fs::directory_iterator(directory, ignored), fs::directory_iterator()));
}

// The number behind "name:" in a file of /proc; 0 when there is none.
Result<uint64_t> number_in(const std::string& path, const std::string& name) {
  VMHOP_ASSIGN(std::string text, read_file(path, kMaxProcFile));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::strtoull(&line[name.size() + 1], nullptr, 10);
  }
  return uint64_t{0};
}

}  // namespace

Result<Belongings> look_at(const std::vector<int>& pids) {
  Belongings all;
  VMHOP_ASSIGN(all.shared_kib, number_in("/proc/meminfo", "Shmem"));
  for (int pid : pids) {
    std::string base = fmt::format("/proc/{}", pid);
    Belongings::Of one;
    one.pid = pid;
    VMHOP_ASSIGN(one.what, read_file(base + "/comm", 64));
    if (!one.what.empty()) one.what.pop_back();
    one.descriptors = entries_in(base + "/fd");
    one.threads = entries_in(base + "/task");
    VMHOP_ASSIGN(std::string maps, read_file(base + "/maps", kMaxProcFile));
    one.mappings = static_cast<uint64_t>(std::count(maps.begin(), maps.end(), '\n'));
    VMHOP_ASSIGN(one.private_kib, number_in(base + "/smaps_rollup", "Private_Dirty"));
    all.processes.push_back(one);
  }
  return all;
}

std::vector<std::string> grown(const Belongings& before, const Belongings& after) {
  std::vector<std::string> found;
  auto compare = [&found](const std::string& what, uint64_t was, uint64_t is, uint64_t allowed) {
    if (is > was + allowed) found.push_back(fmt::format("{}: {} were {}", what, is, was));
  };
  compare("KiB of shared memory", before.shared_kib, after.shared_kib, kSharedKibMore);
  for (const Belongings::Of& was : before.processes) {
    for (const Belongings::Of& is : after.processes) {
      if (is.pid != was.pid) continue;
      compare(was.what + "'s descriptors", was.descriptors, is.descriptors, 0);
      compare(was.what + "'s threads", was.threads, is.threads, 0);
      compare(was.what + "'s mappings", was.mappings, is.mappings, kMappingsMore);
      compare("KiB of " + was.what + "'s own memory", was.private_kib, is.private_kib,
              kPrivateKibMore);
    }
  }
  return found;
}

}  // namespace vmhop::load

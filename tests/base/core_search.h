// What a core dump of a process would have in it.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/types.h>
#include <unistd.h>

#include <charconv>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "backend/base/fd.h"

namespace vmhop::testing_support {

struct MappedRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::string header;  // the line in /proc/PID/maps
  std::string flags;   // as in smaps: " rd wr … dd"
  bool has(const std::string& flag) const { return flags.find(" " + flag) != std::string::npos; }
};

inline std::vector<MappedRange> mapped_ranges(pid_t pid) {
  std::vector<MappedRange> ranges;
  auto smaps = read_file(fmt::format("/proc/{}/smaps", pid), 1 << 24);
  EXPECT_TRUE(smaps.ok()) << smaps.error().message();
  if (!smaps) return ranges;
  std::istringstream lines(*smaps);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("VmFlags:")) {
      ranges.back().flags = line.substr(8);
    } else if (line.find('-') < line.find(' ')) {
      MappedRange range;
      const char* end = line.data() + line.size();
      auto begin = std::from_chars(line.data(), end, range.begin, 16);
      (void)std::from_chars(begin.ptr + 1, end, range.end, 16);
      range.header = line;
      ranges.push_back(std::move(range));
    }
  }
  return ranges;
}

// Where the text is in memory that is readable and not left out of core dumps; empty if nowhere.
inline std::string find_in_core(pid_t pid, std::string_view wanted) {
  UniqueFd memory(::open(fmt::format("/proc/{}/mem", pid).c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(memory.valid());
  constexpr size_t kChunk = 1 << 20;
  std::string chunk;
  for (const MappedRange& range : mapped_ranges(pid)) {
    if (!range.has("rd") || range.has("dd") || range.has("io")) continue;
    for (uint64_t at = range.begin; at < range.end; at += kChunk) {
      chunk.resize(std::min<uint64_t>(kChunk + wanted.size(), range.end - at));
      ssize_t got = ::pread(memory.get(), chunk.data(), chunk.size(), static_cast<off_t>(at));
      if (got <= 0) break;  // [vvar] and the like
      if (std::string_view(chunk.data(), static_cast<size_t>(got)).find(wanted) !=
          std::string_view::npos) {
        return range.header;
      }
    }
  }
  return "";
}

}  // namespace vmhop::testing_support

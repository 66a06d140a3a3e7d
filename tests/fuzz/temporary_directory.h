// A directory that goes with the program, in memory: what is fuzzed may sync its files.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/fuzz/fuzz.h"

namespace vmhop::fuzz {

class TemporaryDirectory {
 public:
  TemporaryDirectory() : path_("/dev/shm/vmhop-fuzz-XXXXXX") {
    require(::mkdtemp(path_.data()) != nullptr, "a directory");
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace vmhop::fuzz

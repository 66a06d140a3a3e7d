// The image of a disk that both hosts reach, and the judgement over what a guest left on it.
#pragma once

#include <cstdint>
#include <string>

#include "backend/base/result.h"

namespace vmhop::lab {

class SharedDisk {
 public:
  // A fresh ext4 in a raw image, below `directory`.
  static Result<SharedDisk> create(const std::string& directory, uint64_t mib = 64);

  const std::string& path() const { return path_; }

  // These read the image only; the guest must be off.
  Status check_filesystem() const;
  // Whether records 1 to `synced` are there and whole; `witness` is the host's witness program.
  Status check_records(const std::string& witness, uint64_t synced) const;

 private:
  SharedDisk(std::string directory, std::string path)
      : directory_(std::move(directory)), path_(std::move(path)) {}

  std::string directory_;
  std::string path_;
};

}  // namespace vmhop::lab

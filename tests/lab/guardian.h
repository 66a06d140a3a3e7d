// Leaves nothing behind, whatever happens to the program that uses the lab: a small process that
// waits for that program's end, then kills what still runs in its namespaces and removes its
// directory. Also the way by which an orderly end cleans up.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop::lab {

class Guardian {
 public:
  // Watches over processes in these namespaces and over `directory`. vmhop's helpers and QEMU live
  // in sessions of their own and outlive their parents by design, so namespaces are what tells
  // which processes belong to a lab.
  static Result<Guardian> start(const std::vector<int>& namespace_fds,
                                const std::string& directory);

  Guardian() = default;
  Guardian(Guardian&& other) noexcept = default;
  Guardian& operator=(Guardian&& other) noexcept;
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;
  // Cleans up; all is gone when it returns.
  ~Guardian() { finish(); }

 private:
  Guardian(pid_t pid, UniqueFd lifeline) : pid_(pid), lifeline_(std::move(lifeline)) {}
  void finish();

  pid_t pid_ = 0;
  UniqueFd lifeline_;  // the guardian acts when this closes
};

}  // namespace vmhop::lab

// A network namespace without a name: it is gone when its last process and descriptor are.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop::lab {

class Namespace {
 public:
  // With its loopback interface up. `name` is for messages. Needs root.
  static Result<Namespace> create(std::string name);
  // The one that the calling thread is in.
  static Result<Namespace> current();

  const std::string& name() const { return name_; }
  int fd() const { return fd_.get(); }
  // For `ip link … netns PATH`, from any namespace.
  std::string path() const;

  // Moves the calling thread into it for good: for threads that have nothing else to do.
  Status enter() const;

 private:
  Namespace(std::string name, UniqueFd fd) : name_(std::move(name)), fd_(std::move(fd)) {}

  std::string name_;
  UniqueFd fd_;
};

// The processes whose main thread is in one of these namespaces.
std::vector<pid_t> processes_in(const std::vector<int>& namespace_fds);

}  // namespace vmhop::lab

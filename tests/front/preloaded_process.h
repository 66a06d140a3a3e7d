// A child process under the preload library, spoken to over its stdin and stdout.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop::test {

struct PreloadedCommand {
  std::vector<std::string> arguments;
  std::string front_variable;  // empty: none
  std::vector<int> inherited;  // descriptors
  std::string preload = VMHOP_PRELOAD_LIBRARY;
  std::optional<uid_t> user;  // gives up every privilege for this user
};

class PreloadedProcess {
 public:
  static Result<PreloadedProcess> start(const PreloadedCommand& command);

  PreloadedProcess(PreloadedProcess&& other) noexcept = default;
  PreloadedProcess& operator=(PreloadedProcess&&) = delete;
  PreloadedProcess(const PreloadedProcess&) = delete;
  PreloadedProcess& operator=(const PreloadedProcess&) = delete;
  // Kills it if it still runs.
  ~PreloadedProcess();

  pid_t pid() const { return pid_; }
  void send(const std::string& line);
  // The next line of its stdout; "" at its end, or when none came within 20 seconds.
  std::string receive();
  // send() and receive().
  std::string ask(const std::string& line);
  // Closes its stdin and waits for it to end: its exit code, or -1 for a signal.
  int wait();
  // All it wrote to stderr; after wait().
  std::string errors() const;

 private:
  PreloadedProcess(pid_t pid, UniqueFd input, UniqueFd output, UniqueFd errors)
      : pid_(pid),
        input_(std::move(input)),
        output_(std::move(output)),
        errors_(std::move(errors)) {}

  pid_t pid_;
  UniqueFd input_;
  UniqueFd output_;
  UniqueFd errors_;  // a memfd
  std::string received_;
  bool reaped_ = false;
};

}  // namespace vmhop::test

// A program that the lab runs: on a host's network, with its output on file, killed at the latest
// when the object goes.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "cli/child_process.h"
#include "tests/lab/clock.h"
#include "tests/lab/namespace.h"

namespace vmhop::lab {

struct ProcessSpec {
  std::vector<std::string> argv;                                 // program searched in PATH
  const Namespace* where = nullptr;                              // null: the lab's own
  std::vector<std::pair<std::string, std::string>> environment;  // added to the lab's own
  std::string output;                                            // files OUTPUT.out and OUTPUT.err
  std::string input;                                             // all of its standard input
  // With a terminal (Terminal::program_end()) it has that instead of input and output, in a session
  // of its own, and what is typed there is its.
  int terminal = -1;
};

class Process {
 public:
  // Leads a process group of its own and is killed when the thread that calls this ends: call it
  // from the main thread, or from one that outlives the process.
  static Result<Process> start(const ProcessSpec& spec);

  Process(Process&& other) noexcept = default;
  // What this was goes with the other object.
  Process& operator=(Process&& other) noexcept;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process();

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  bool running();
  // kTimedOut while it still runs.
  Result<ExitStatus> wait(Deadline deadline);

  // All that it has written so far.
  std::string out() const;
  std::string err() const;
  const std::string& output() const { return output_; }

  // Waits until `seen`, given all of standard output (or error) so far, is true. Fails at the
  // deadline, or when the process has ended without it, with the end of what it wrote.
  using Seen = std::function<bool(std::string_view)>;
  Status wait_for_out(const Seen& seen, Deadline deadline);
  Status wait_for_err(const Seen& seen, Deadline deadline);

 private:
  Process(pid_t pid, UniqueFd pidfd, std::string program, std::string output)
      : pid_(pid),
        pidfd_(std::move(pidfd)),
        program_(std::move(program)),
        output_(std::move(output)) {}
  Status wait_for_file(const std::string& path, const Seen& seen, Deadline deadline);

  pid_t pid_;
  UniqueFd pidfd_;
  std::string program_;
  std::string output_;
  std::optional<ExitStatus> status_;
};

// The processor time that a process (any process) has used.
Result<std::chrono::nanoseconds> cpu_time(pid_t pid);

// Runs a program to its end and returns what it printed; an error has its code and error output.
// `directory` is where its output goes meanwhile.
Result<std::string> run_tool(const std::string& directory, std::vector<std::string> argv,
                             const Namespace* where = nullptr, std::string input = {});

// The last lines of a text.
std::string last_lines(std::string_view text, size_t count);

}  // namespace vmhop::lab

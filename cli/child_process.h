// Child processes: started with a chosen set of descriptors, watched by pidfd, reaped exactly once.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

// A process id together with its start time (clock ticks since boot): names one process for ever.
struct ProcessIdentity {
  pid_t pid = 0;
  uint64_t start_time = 0;
  bool operator==(const ProcessIdentity&) const = default;
};

// kClosed when there is no such process.
Result<ProcessIdentity> identify_process(pid_t pid);
// True while that very process exists and is not a zombie.
bool is_alive(const ProcessIdentity& identity);
// Signals that very process; not an error when it is gone.
Status signal_process(const ProcessIdentity& identity, int signal);

struct ExitStatus {
  int code = 0;          // when not signalled
  int signal = 0;        // 0: it exited by itself
  bool unknown = false;  // of a process that is not ours to reap
  // As a shell reports it: 128 + signal.
  int shell_code() const { return signal != 0 ? 128 + signal : code; }
  bool clean() const { return signal == 0 && code == 0; }
  std::string describe() const;
};

// What to start, and what it inherits. Everything else that vmhop opened is close-on-exec.
struct ChildSpec {
  enum class Kind {
    // Shares vmhop's terminal and process group, but the terminal's signals are blocked in it:
    // they are for vmhop, which ends the child in good order.
    kForeground,
    // In a session of its own, standard input and output on /dev/null; outlives vmhop.
    kDetached,
  };
  Kind kind = Kind::kForeground;
  std::string program;                                           // searched in PATH
  std::vector<std::string> argv;                                 // with argv[0]
  std::vector<std::pair<std::string, std::string>> environment;  // added to vmhop's own
  std::vector<int> inherited;                                    // kept at their numbers
  int as_fd_3 = -1;                                              // this one becomes descriptor 3
  int standard_output = -1;                                      // this one becomes descriptor 1
  int standard_input = -1;                                       // ... 0
  int standard_error = -1;                                       // ... 2
};

class ChildProcess {
 public:
  // Fails, naming the program, when it cannot be executed.
  static Result<std::shared_ptr<ChildProcess>> spawn(const ChildSpec& spec);
  // One that somebody else started and will reap. kClosed when there is no such process.
  static Result<std::shared_ptr<ChildProcess>> adopt(pid_t pid);
  // Leaves the process alone: whoever must not survive is killed by name.
  ~ChildProcess() = default;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  const ProcessIdentity& identity() const { return identity_; }
  // Readable once the process has exited.
  int pidfd() const { return pidfd_.get(); }

  // These may be called from any thread.
  void signal(int number) const;
  bool may_signal() const;
  // Reaps it if it has exited; the answer stays the same afterwards. How an adopted one exited is
  // not known.
  std::optional<ExitStatus> poll();
  // kTimedOut when it still runs.
  Result<ExitStatus> wait(std::chrono::milliseconds timeout);
  // SIGKILL, then waits: when this returns, the process has no thread left that could do anything.
  ExitStatus kill_and_reap();

 private:
  ChildProcess(ProcessIdentity identity, UniqueFd pidfd, bool adopted)
      : identity_(identity), pidfd_(std::move(pidfd)), adopted_(adopted) {}

  ProcessIdentity identity_;
  UniqueFd pidfd_;
  bool adopted_;
  std::mutex reaping_;  // guards status_
  std::optional<ExitStatus> status_;
};

}  // namespace vmhop

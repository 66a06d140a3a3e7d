// A guest's serial console, followed from one QEMU to the next.
//
// Each QEMU offers it as a socket. A line that was cut in two by the switch, its beginning
// printed at the source and its end at the destination, is one line here.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "tests/lab/line_log.h"

namespace vmhop::lab {

class GuestConsole {
 public:
  static Result<std::unique_ptr<GuestConsole>> create();
  ~GuestConsole();
  GuestConsole(const GuestConsole&) = delete;
  GuestConsole& operator=(const GuestConsole&) = delete;

  // Listens to one more QEMU, waiting for its socket (QemuPlace) until `deadline`. The streams are
  // numbered in this order, and a guest moves from lower to higher numbers only.
  Status attach(const std::string& where, Deadline deadline);

  // Sends a command to the guest: on this stream, or to the QEMU that spoke last.
  Status send(const std::string& line, unsigned stream) const;
  Status send(const std::string& line) const;

  const LineLog& log() const { return log_; }
  Result<Line> wait_for(const LineLog::Wanted& wanted, Deadline deadline, size_t first = 0) const {
    return log_.wait_for(wanted, deadline, first);
  }
  Result<Line> wait_for_prefix(const std::string& prefix, Deadline deadline,
                               size_t first = 0) const;

 private:
  struct Stream {
    UniqueFd socket;
    bool open = true;
  };

  explicit GuestConsole(EventFd wake) : wake_(std::move(wake)) {}
  void follow();
  void read_stream(unsigned number, int socket);
  void take(unsigned number, std::string_view bytes);

  EventFd wake_;
  LineLog log_;
  mutable std::mutex mutex_;  // guards what follows, up to the thread's own
  std::vector<Stream> streams_;
  unsigned speaking_ = 0;  // the first one until another one does
  bool stop_ = false;
  // The reading thread's.
  std::string partial_;
  std::thread thread_;
};

}  // namespace vmhop::lab

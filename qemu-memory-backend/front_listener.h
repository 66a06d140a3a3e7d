// Where QEMU's front hands over the RAM regions that are to be filled on demand.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

// One RAM block of QEMU: mapped there, registered for MISSING|MINOR faults, none of it touched.
struct FrontRegion {
  std::string id;        // QEMU's name of the block
  uint64_t address = 0;  // of the mapping in QEMU
  uint64_t size = 0;     // of mapping and memfd
  uint32_t page_size = 0;
  pid_t pid = 0;         // the process it belongs to, as the kernel says
  bool watched = false;  // its front keeps the connection, for progress
  bool again = false;    // watched, and accepted before: its front lost that connection
  UniqueFd userfaultfd;  // non-blocking
  UniqueFd memfd;
};

// How far a watched region is.
struct FrontProgress {
  uint64_t resident = 0;  // bytes
  uint64_t faults = 0;    // served since the front offered the region first
  bool drained = false;   // userfaultfd is unregistered: the last thing to be said
};

// Never waits, since QEMU may be frozen. kTimedOut: it has not read what was said before; say this
// again later, or if it is not the last, the next instead. kClosed: it will connect again.
Status send_front_progress(const UniqueFd& connection, const FrontProgress& progress);

// A region whose QEMU waits for the answer. Dropped without one, QEMU refuses to start.
class FrontOffer {
 public:
  // May be moved out of before the answer.
  FrontRegion region;

  // QEMU goes on and may touch the region at once: somebody must be serving its faults.
  Status accept();
  // QEMU says `reason` and exits. (A region that comes again: it tries again and again.)
  Status refuse(std::string_view reason);

  // After accept() of a watched region: where its front reads progress. It notices the end of this
  // connection, and connects again unless it has read that the region is drained.
  UniqueFd take_connection() { return std::move(connection_); }

 private:
  friend class FrontListener;
  FrontOffer(FrontRegion offered, UniqueFd connection)
      : region(std::move(offered)), connection_(std::move(connection)) {}

  UniqueFd connection_;
};

// Not thread-safe: one thread owns a listener.
class FrontListener {
 public:
  // Replaces a dead socket file; the new one is for the owner alone. Removed by the destructor.
  static Result<FrontListener> listen(const std::string& path);

  FrontListener(FrontListener&&) noexcept = default;
  FrontListener& operator=(FrontListener&&) = delete;
  FrontListener(const FrontListener&) = delete;
  FrontListener& operator=(const FrontListener&) = delete;
  ~FrontListener();

  // Readable when a front has connected.
  int fd() const { return socket_.get(); }
  const std::string& path() const { return path_; }

  // The next region. Waits at most `timeout` for a front to connect, and for the message of one
  // that has no longer than 2 s: kTimedOut when nothing came. A message that is wrong in any field
  // is answered with a refusal, which is also the error returned; the listener can go on.
  Result<FrontOffer> receive(std::chrono::milliseconds timeout);

 private:
  FrontListener(UniqueFd socket, std::string path)
      : socket_(std::move(socket)), path_(std::move(path)) {}

  UniqueFd socket_;
  std::string path_;
};

}  // namespace vmhop

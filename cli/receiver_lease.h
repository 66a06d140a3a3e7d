// What ties a receiver to the `vmhop relocate` that started it over ssh. Until the VM runs here it
// is held by a lease: ssh's standard input, which must neither end nor be silent for long. Then the
// receiver stays for good, and has nothing to do with ssh any more.
//
// One thread owns it.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "backend/base/fd.h"
#include "backend/base/result.h"

namespace vmhop {

class ReceiverLease {
 public:
  struct Ends {
    UniqueFd
        lifeline;   // whoever waits for this receiver holds the other end, and writes now and then
    UniqueFd news;  // lines of JSON to them
    UniqueFd settled;  // a byte there: the process beside ssh may go
  };

  ReceiverLease(Ends ends, std::chrono::milliseconds limit)
      : ends_(std::move(ends)), limit_(limit) {}

  // Readable when there is a sign of life, or of the end.
  int fd() const { return ends_.lifeline.get(); }
  std::chrono::milliseconds limit() const { return limit_; }
  // Takes what there is to read. False when it has ended.
  bool renew();

  // From here on standard error is this file, for all that is started, too.
  Status log_to(const std::string& path);
  // The end of it, also when the file is gone.
  std::string last_log_lines() const;

  // The address at which ssh reached this host; empty where that is not known.
  static std::string address_of_ssh();

  // Nobody may be there to hear it.
  void say(const nlohmann::json& news) const;
  // The VM runs here: lets go of everything that is ssh's.
  void settle();
  bool settled() const { return !ends_.lifeline.valid(); }

 private:
  Ends ends_;
  std::chrono::milliseconds limit_;
  UniqueFd log_;
};

}  // namespace vmhop

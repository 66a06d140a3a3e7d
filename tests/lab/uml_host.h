// One of the two hosts that `ci/rxe-lab --hosts 2` boots beside a program: a kernel of its own
// (User Mode Linux) with rxe, on this machine's file system. Start programs there with
// ProcessSpec::host; their files are everybody's, but unix sockets and processes are the host's
// own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backend/base/fd.h"
#include "backend/base/result.h"
#include "tests/lab/clock.h"

namespace vmhop::lab {

class UmlHost {
 public:
  // "source" or "destination"; kRefused when this program does not run beside such hosts.
  static Result<UmlHost> find(const std::string& name);

  const std::string& name() const { return name_; }
  // In the network of the guests, which the lab is in too.
  std::string address() const { return "10.77.0." + number_; }
  // Of its RDMA device, in a network of the two hosts alone.
  std::string rdma_address() const { return "10.78.0." + number_; }

  // For a guest: its network, and a disk that both hosts reach. On the outside the disk is
  // a SharedDisk in lab_directory().
  static constexpr const char* kTap = "tap0";
  static constexpr const char* kDisk = "/dev/ubda";
  std::string lab_directory() const { return directory_.substr(0, directory_.rfind('/')); }
  // On the lab's side of that network.
  static constexpr const char* kClientInterface = "guest";

  // Pulls out the cable of its RDMA device, and puts it back. The hosts' neighbour tables are not
  // told: `ip neigh flush dev vec0` there makes rdma_cm notice at once.
  Status cut() const { return set_cable({"nomaster"}); }
  Status join() const { return set_cable({"master", "rdma"}); }

  // Its power fails: nothing in it says goodbye. Nothing is left of it on return.
  Status kill() const;
  // Boots it again, and waits until programs can be started. It ends with the calling thread.
  Status boot(Deadline deadline) const;

  // Readable when the host is no more.
  Result<UniqueFd> lifeline() const;
  // What has to stand before a command to run it there, with its output on `output`.out and .err.
  std::vector<std::string> launcher(const std::string& output) const;

 private:
  UmlHost(std::string name, std::string directory, std::string number)
      : name_(std::move(name)), directory_(std::move(directory)), number_(std::move(number)) {}
  Status set_cable(const std::vector<std::string>& at_switch) const;

  std::string name_;
  std::string directory_;  // ci/lab/two-hosts says what is in it
  std::string number_;
};

}  // namespace vmhop::lab

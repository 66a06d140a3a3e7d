// Where the demo takes place: two hosts, a client beside them that reaches the guest, and a disk
// that both hosts reach.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "tests/lab/namespace.h"
#include "tests/lab/shared_disk.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::demo {

// What is different from venue to venue, and no more than a value.
struct Conditions {
  std::string description;
  std::string tap;               // a guest's, on either host
  std::string client_interface;  // the client's, through which it reaches the guest
  std::string rdma_interface;    // a host's, which carries RDMA and nothing else; or empty
  std::vector<std::string> receive_options;
  std::vector<std::string> relocate_options;
  uint64_t ram_mib = 512;
  uint64_t witness_mib = 0;  // 0: what the guest can spare
  unsigned wrk_connections = 8;
  std::chrono::milliseconds probe_pause{2};
  unsigned slowness = 1;  // what deadlines are multiplied by
};

class Venue {
 public:
  virtual ~Venue() = default;

  virtual const Conditions& conditions() const = 0;
  // Of this demo alone, and gone with it.
  virtual const std::string& directory() const = 0;
  // "source" or "destination".
  virtual Result<lab::VmhopHost> host(const std::string& name) const = 0;
  virtual const lab::Namespace& client() const = 0;
  virtual Result<lab::SharedDisk> make_disk() const = 0;
  // By which path a QEMU on either host opens it.
  virtual std::string path_for_guest(const lab::SharedDisk& disk) const = 0;
  // That neither vmhop nor a QEMU is left there.
  virtual Status nothing_runs_on(const lab::VmhopHost& host) const = 0;
};

// Network namespaces on this kernel. Pages travel by TCP. `vmhop` is the program on the hosts.
Result<std::unique_ptr<Venue>> make_namespaces(const std::string& vmhop);

// The two kernels that ci/rxe-lab --hosts 2 has booted. Pages travel by RDMA.
Result<std::unique_ptr<Venue>> find_kernels(const std::string& vmhop);

}  // namespace vmhop::demo

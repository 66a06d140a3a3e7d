// The vmhop program on one of the lab's hosts, as a person would use it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backend/base/result.h"
#include "cli/qmp_client.h"
#include "tests/lab/network.h"
#include "tests/lab/process.h"
#include "tests/lab/qemu_place.h"
#include "tests/lab/terminal.h"
#include "tests/lab/uml_host.h"

namespace vmhop::lab {

// The vmhop of these tests: $VMHOP_LAB_VMHOP, or that of this build. A sanitizer's build has one,
// too.
std::string lab_vmhop();

struct Finished {
  ExitStatus status;
  std::string out;
  std::string err;
  // The last line of standard output as JSON; null when it is none.
  nlohmann::json json() const;
  std::string describe() const;
};

class VmhopHost {
 public:
  static constexpr uint16_t kPort = 4000;

  // `vmhop` is the program. The hosts of one network share a key.
  static Result<VmhopHost> create(const Network& network, const std::string& name,
                                  const std::string& vmhop);
  // On a kernel of its own. `directory` is the lab's, shared by its hosts; `host` must outlive
  // this.
  static Result<VmhopHost> create(const UmlHost& host, const std::string& directory,
                                  const std::string& vmhop);

  const std::string& name() const { return name_; }
  const std::string& directory() const { return directory_; }
  std::string runtime_directory() const { return directory_ + "/run"; }
  const std::string& address() const { return address_; }
  QemuPlace place() const { return uml_ != nullptr ? place_at(address_) : place_in(directory_); }
  // Where VMs are received here.
  std::string endpoint() const { return fmt::format("{}:{}", address_, kPort); }
  // Of its RDMA device, on a kernel of its own.
  std::string rdma_address() const { return uml_ != nullptr ? uml_->rdma_address() : address_; }
  const std::string& key() const { return key_; }

  // For all that is started here from now on.
  void set_environment(const std::string& name, const std::string& value) {
    environment_.emplace_back(name, value);
  }

  // What everything that is started here from now on is started by, a command line that its own is
  // appended to: as another user, for example.
  void set_launcher(std::vector<std::string> launcher) { launcher_ = std::move(launcher); }

  // Starts a VM and waits until it runs (or is paused, as asked for).
  Result<Process> run(const std::string& vm, const std::vector<std::string>& qemu,
                      const std::vector<std::string>& options = {}) const;
  // Starts receiving, and waits until somebody can connect. (Receiving and relocating with the
  // hosts' key, unless `options` name another, or certificates.)
  Result<Process> receive(const std::string& vm, const std::vector<std::string>& qemu,
                          const std::vector<std::string>& options = {}) const;
  // ... without waiting: for what is to be refused.
  Result<Process> start_receiving(const std::string& vm, const std::vector<std::string>& qemu,
                                  const std::vector<std::string>& options = {}) const;
  // Starts `vmhop relocate --json`.
  Result<Process> relocate(const std::string& vm, const std::string& endpoint,
                           const std::vector<std::string>& options = {}) const;
  // Runs any command to its end.
  Result<Finished> command(const std::vector<std::string>& arguments) const;
  // Starts any command.
  Result<Process> start(const std::vector<std::string>& arguments) const;
  // ... on a terminal, as a person would.
  Result<Process> start_on(const Terminal& terminal,
                           const std::vector<std::string>& arguments) const;

  // Starts another program than vmhop here.
  Result<Process> start_program(const std::vector<std::string>& argv) const;
  // Runs one to its end: what it printed.
  Result<std::string> output_of(const std::vector<std::string>& argv) const;

  // Kills every program here whose name begins so, children that others left behind included. They
  // are gone when this returns.
  Status kill_all(const std::string& prefix) const;

  // What `vmhop status NAME --json` says.
  Result<nlohmann::json> status(const std::string& vm) const;

  // The lab's own monitor of the QEMU here, waiting for it until `deadline`.
  Result<QmpClient> monitor(Deadline deadline) const;

 private:
  VmhopHost(const std::string& lab, std::string name, std::string address, std::string vmhop)
      : name_(std::move(name)),
        directory_(lab + "/" + name_),
        address_(std::move(address)),
        key_(lab + "/key"),
        vmhop_(std::move(vmhop)),
        environment_{
            {"VMHOP_RUNTIME_DIR", runtime_directory()},
            // (Tests preload libraries of their own, which intercept nothing of ASan's.)
            {"ASAN_OPTIONS", "verify_asan_link_order=0:log_path=" + directory_ + "/sanitizer"}} {}
  Status prepare(const std::string& lab) const;
  ProcessSpec spec_for(const std::vector<std::string>& arguments) const;
  ProcessSpec program_spec(const std::vector<std::string>& argv, const std::string& called) const;
  // The hosts' key, unless another is named.
  std::vector<std::string> with_key(std::vector<std::string> options) const;

  const Namespace* where_ = nullptr;  // this ...
  const UmlHost* uml_ = nullptr;      // ... or that
  std::string name_;
  std::string directory_;
  std::string address_;
  std::string key_;
  std::string vmhop_;
  std::vector<std::pair<std::string, std::string>> environment_;
  std::vector<std::string> launcher_;
};

// What sanitizers found in the vmhops of the hosts in a lab's directory, where $VMHOP_LAB_VMHOP was
// built with one: it may be a process that vmhop replaced, and nothing else tells of it.
std::vector<std::string> sanitizer_reports(const std::string& lab);

// Waits for a process that is expected to end by itself, with all that it printed.
Result<Finished> finish(Process& process, Deadline deadline);

}  // namespace vmhop::lab

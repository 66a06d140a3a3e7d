// An ssh server on one of the lab's hosts, with keys and a configuration of its own.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend/base/result.h"
#include "tests/lab/process.h"
#include "tests/lab/vmhop_host.h"

namespace vmhop::lab {

class SshServer {
 public:
  // What is started by it finds the host's VMs, as if it had been started by VmhopHost. `host` must
  // outlive this. One for each lab: its files are in a directory beside the host's.
  static Result<std::unique_ptr<SshServer>> start(const VmhopHost& host);
  SshServer(const SshServer&) = delete;
  SshServer& operator=(const SshServer&) = delete;
  ~SshServer();

  // "ssh://root@ADDRESS:PORT"
  const std::string& url() const { return url_; }
  // How ssh is called to be let in, and to be refused.
  std::string client() const { return client_ + " -i " + directory_ + "/user-key"; }
  std::string stranger() const { return client_ + " -o IdentityAgent=none -i /dev/null"; }

  // It, and the sessions that it has.
  Status stop();

 private:
  explicit SshServer(const VmhopHost& host);
  Status make_keys() const;
  Status configure() const;

  const VmhopHost& host_;
  std::string directory_;
  std::string url_;
  std::string client_;
  bool made_run_directory_ = false;
  std::optional<Process> server_;
};

}  // namespace vmhop::lab

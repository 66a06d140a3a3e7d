#include "tests/lab/ssh_server.h"

#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX signals, not C's
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>

namespace vmhop::lab {
namespace {

namespace fs = std::filesystem;

constexpr uint16_t kPort = 2222;
// sshd wants its own whole path, to start itself again for each session.
constexpr const char* kProgram = "/usr/sbin/sshd";
// Compiled into it; otherwise the service makes it.
constexpr const char* kRunDirectory = "/run/sshd";
constexpr std::chrono::seconds kPatience{30};

Result<std::string> first_line_of(const std::string& path) {
  VMHOP_ASSIGN(std::string text, read_file(path, 4096));
  return text.substr(0, text.find('\n') + 1);
}

}  // namespace

Result<std::unique_ptr<SshServer>> SshServer::start(const Network& network, const VmhopHost& host) {
  std::string address = network.address(host.name());
  std::unique_ptr<SshServer> server(new SshServer(network.directory() + "/ssh"));
  server->where_ = &network.host(host.name());
  server->url_ = fmt::format("ssh://root@{}:{}", address, kPort);
  server->client_ =
      fmt::format("ssh -F none -o UserKnownHostsFile={}/known -o StrictHostKeyChecking=yes",
                  server->directory_);
  fs::create_directory(server->directory_);
  server->made_run_directory_ = fs::create_directory(kRunDirectory);
  VMHOP_TRY(server->make_keys(address));
  VMHOP_TRY(server->configure(host, address));
  ProcessSpec spec;
  spec.argv = {kProgram, "-D", "-e", "-f", server->directory_ + "/config"};
  spec.where = server->where_;
  spec.output = server->directory_ + "/sshd";
  VMHOP_ASSIGN(server->server_, Process::start(spec));
  VMHOP_TRY(server->server_->wait_for_err(
      [](auto text) { return text.find("Server listening on") != std::string_view::npos; },
      within(kPatience)));
  return server;
}

SshServer::~SshServer() {
  (void)stop();
}

Status SshServer::make_keys(const std::string& address) const {
  for (const char* name : {"host-key", "user-key"}) {
    VMHOP_TRY(run_tool(directory_, {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                                    directory_ + "/" + name}));
  }
  VMHOP_ASSIGN(std::string host, first_line_of(directory_ + "/host-key.pub"));
  VMHOP_ASSIGN(std::string user, first_line_of(directory_ + "/user-key.pub"));
  VMHOP_TRY(replace_file(directory_ + "/known", fmt::format("[{}]:{} {}", address, kPort, host)));
  return replace_file(directory_ + "/authorized", user);
}

Status SshServer::configure(const VmhopHost& host, const std::string& address) const {
  // The directory lies in one that everybody may write to.
  return replace_file(directory_ + "/config",
                      fmt::format("ListenAddress {0}:{1}\n"
                                  "HostKey {2}/host-key\n"
                                  "AuthorizedKeysFile {2}/authorized\n"
                                  "AuthenticationMethods publickey\n"
                                  "PermitRootLogin yes\n"
                                  "StrictModes no\n"
                                  "UsePAM no\n"
                                  "PidFile none\n"
                                  "SetEnv VMHOP_RUNTIME_DIR={3}\n",
                                  address, kPort, directory_, host.runtime_directory()));
}

Status SshServer::stop() {
  if (!server_) return ok_status();
  server_.reset();
  for (pid_t pid : processes_in({where_->fd()})) {
    UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    auto name = read_file(fmt::format("/proc/{}/comm", pid), 64);
    if (!process.valid() || !name || !name->starts_with("sshd")) continue;
    ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
    VMHOP_TRY(wait_fd(process.get(), POLLIN, static_cast<int>(kPatience.count()) * 1000));
  }
  std::error_code ignored;
  if (made_run_directory_) fs::remove(kRunDirectory, ignored);
  return ok_status();
}

}  // namespace vmhop::lab

#include "tests/lab/ssh_server.h"

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

SshServer::SshServer(const VmhopHost& host)
    : host_(host),
      directory_(fs::path(host.directory()).parent_path() / "ssh"),
      url_(fmt::format("ssh://root@{}:{}", host.address(), kPort)),
      client_(fmt::format("ssh -F none -o UserKnownHostsFile={}/known -o StrictHostKeyChecking=yes",
                          directory_)) {}

Result<std::unique_ptr<SshServer>> SshServer::start(const VmhopHost& host) {
  std::unique_ptr<SshServer> server(new SshServer(host));
  fs::create_directory(server->directory_);
  server->made_run_directory_ = host.output_of({"mkdir", kRunDirectory}).ok();
  VMHOP_TRY(server->make_keys());
  VMHOP_TRY(server->configure());
  VMHOP_ASSIGN(server->server_,
               host.start_program({kProgram, "-D", "-e", "-f", server->directory_ + "/config"}));
  VMHOP_TRY(server->server_->wait_for_err(
      [](auto text) { return text.find("Server listening on") != std::string_view::npos; },
      within(kPatience)));
  return server;
}

SshServer::~SshServer() {
  (void)stop();
}

Status SshServer::make_keys() const {
  for (const char* name : {"host-key", "user-key"}) {
    VMHOP_TRY(run_tool(directory_, {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                                    directory_ + "/" + name}));
  }
  VMHOP_ASSIGN(std::string host, first_line_of(directory_ + "/host-key.pub"));
  VMHOP_ASSIGN(std::string user, first_line_of(directory_ + "/user-key.pub"));
  VMHOP_TRY(
      replace_file(directory_ + "/known", fmt::format("[{}]:{} {}", host_.address(), kPort, host)));
  return replace_file(directory_ + "/authorized", user);
}

Status SshServer::configure() const {
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
                                  host_.address(), kPort, directory_, host_.runtime_directory()));
}

Status SshServer::stop() {
  if (!server_) return ok_status();
  server_.reset();
  VMHOP_TRY(host_.kill_all("sshd"));
  if (made_run_directory_) (void)host_.output_of({"rmdir", kRunDirectory});
  return ok_status();
}

}  // namespace vmhop::lab

#include "cli/control_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace vmhop {
namespace {

using nlohmann::json;

constexpr size_t kMaxClients = 64;

UniqueFd any_descriptor() {
  return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

}  // namespace

json error_event(ErrorKind kind, const std::string& message) {
  return {{"event", "error"}, {"kind", kind_name(kind)}, {"message", message}};
}

Result<std::unique_ptr<ControlServer>> ControlServer::start(EventLoop& loop,
                                                            const std::string& path,
                                                            Callbacks callbacks) {
  VMHOP_ASSIGN(UniqueFd listening, listen_unix(path, SOCK_SEQPACKET));
  std::unique_ptr<ControlServer> server(
      new ControlServer(loop, path, std::move(listening), std::move(callbacks)));
  server->spare_ = any_descriptor();
  loop.set(server->listening_.get(), POLLIN, [raw = server.get()](short) { raw->accept_client(); });
  return server;
}

ControlServer::~ControlServer() {
  for (const auto& [id, channel] : clients_)
    loop_.remove(channel.fd());
  loop_.remove(listening_.get());
  ::unlink(path_.c_str());
}

void ControlServer::accept_client() {
  // Non-blocking: the supervisor waits for nobody who stopped reading.
  UniqueFd socket(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid() && errno == EMFILE && spare_.valid()) {
    spare_.reset();
    return accept_client();
  }
  if (!socket.valid()) return pause_.after_failure(errno);
  if (clients_.size() >= kMaxClients) return;
  ClientId id = next_id_++;
  auto it = clients_.emplace(id, ControlChannel(std::move(socket))).first;
  loop_.set(it->second.fd(), POLLIN, [this, id](short) { serve(id); });
}

void ControlServer::serve(ClientId id) {
  auto it = clients_.find(id);
  if (it == clients_.end()) return;
  auto request = it->second.receive(0);
  if (request) {
    callbacks_.on_request(id, *std::move(request));
  } else if (request.error().kind() != ErrorKind::kTimedOut) {
    if (request.error().kind() != ErrorKind::kClosed) {
      send(id, error_event(ErrorKind::kFailed, request.error().message()));
    }
    drop(id);
  }
}

void ControlServer::send(ClientId client, const nlohmann::json& message) {
  auto it = clients_.find(client);
  if (it != clients_.end() && !it->second.send(message)) drop(client);
}

void ControlServer::drop(ClientId id) {
  auto it = clients_.find(id);
  if (it == clients_.end()) return;
  loop_.remove(it->second.fd());
  clients_.erase(it);
  if (!spare_.valid()) spare_ = any_descriptor();
  callbacks_.on_gone(id);
}

}  // namespace vmhop

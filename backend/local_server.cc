#include "backend/local_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace vmhop {
namespace {

constexpr size_t kMaxClients = 32;

}  // namespace

Result<std::unique_ptr<LocalServer>> LocalServer::start(EventLoop& loop, const std::string& path,
                                                        Handler handler) {
  VMHOP_ASSIGN(UniqueFd listening, listen_unix(path, SOCK_SEQPACKET));
  std::unique_ptr<LocalServer> server(
      new LocalServer(loop, path, std::move(listening), std::move(handler)));
  loop.set(server->listening_.get(), POLLIN, [raw = server.get()](short) { raw->accept_client(); });
  return server;
}

LocalServer::~LocalServer() {
  for (const auto& [fd, channel] : clients_)
    loop_.remove(fd);
  loop_.remove(listening_.get());
  ::unlink(path_.c_str());
}

void LocalServer::accept_client() {
  // Not blocking: a client that does not read its answers is dropped, nobody waits for it.
  UniqueFd client(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.valid()) return pause_.after_failure(errno);
  if (clients_.size() >= kMaxClients) return;
  int fd = client.get();
  clients_.emplace(fd, ControlChannel(std::move(client)));
  loop_.set(fd, POLLIN, [this, fd](short) { serve_client(fd); });
}

void LocalServer::serve_client(int fd) {
  ControlChannel& channel = clients_.at(fd);
  auto request = channel.receive(0);
  if (request && channel.send(answer(request->body)).ok()) return;
  loop_.remove(fd);
  clients_.erase(fd);
}

nlohmann::json LocalServer::answer(const nlohmann::json& request) const {
  try {
    return handler_(request);
  } catch (const nlohmann::json::exception& broken) {
    return {{"event", "error"}, {"message", broken.what()}};
  }
}

}  // namespace vmhop

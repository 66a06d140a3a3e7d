#include "cli/metrics_server.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>

#include "backend/session/tcp.h"
#include "cli/exit_codes.h"
#include "cli/signals.h"
#include "cli/vm_metrics.h"

namespace vmhop {
namespace {

constexpr size_t kMaxClients = 16;
constexpr size_t kMaxRequest = 8192;
// For all of one request and its answer.
constexpr std::chrono::seconds kPatience{10};
constexpr std::string_view kEndOfHead = "\r\n\r\n";

std::string response(std::string_view status, std::string_view type, const std::string& body,
                     bool with_body = true) {
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
      status, type, body.size(), with_body ? body : "");
}

std::string refusal(std::string_view status, const std::string& why) {
  return response(status, "text/plain; charset=utf-8", why + "\n");
}

// Prometheus says what it understands; whoever says nothing gets the older format.
MetricsFormat wanted_format(std::string head) {
  std::transform(head.begin(), head.end(), head.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  size_t accept = head.find("\r\naccept:");
  if (accept == std::string::npos) return MetricsFormat::kPrometheus;
  std::string_view line(head);
  line.remove_prefix(accept + 2);
  line = line.substr(0, line.find("\r\n"));
  return line.find("application/openmetrics-text") != std::string_view::npos
             ? MetricsFormat::kOpenMetrics
             : MetricsFormat::kPrometheus;
}

}  // namespace

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(EventLoop& loop, UniqueFd listening,
                                                            std::string base) {
  VMHOP_TRY(set_nonblocking(listening.get()));
  std::unique_ptr<MetricsServer> self(
      new MetricsServer(loop, std::move(listening), std::move(base)));
  loop.set(self->listening_.get(), POLLIN, [raw = self.get()](short) { raw->accept_client(); });
  return self;
}

MetricsServer::~MetricsServer() {
  loop_.remove(listening_.get());
  while (!clients_.empty())
    drop(clients_.begin()->first);
}

void MetricsServer::accept_client() {
  UniqueFd socket(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) return pause_.after_failure(errno);
  if (clients_.size() >= kMaxClients) return;
  int fd = socket.get();
  auto deadline = loop_.after(kPatience, [this, fd] {
    clients_.at(fd).deadline = 0;
    drop(fd);
  });
  clients_.emplace(fd, Client{std::move(socket), "", "", deadline});
  loop_.set(fd, POLLIN, [this, fd](short) { read_request(fd); });
}

void MetricsServer::drop(int fd) {
  auto it = clients_.find(fd);
  if (it == clients_.end()) return;
  loop_.remove(fd);
  if (it->second.deadline != 0) loop_.cancel(it->second.deadline);
  clients_.erase(it);
}

void MetricsServer::read_request(int fd) {
  Client& client = clients_.at(fd);
  std::array<char, 2048> buffer{};
  ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return drop(fd);
  client.request.append(buffer.data(), static_cast<size_t>(got));
  size_t end = client.request.find(kEndOfHead);
  if (end == std::string::npos && client.request.size() < kMaxRequest) return;
  client.response = end == std::string::npos
                        ? refusal("431 Request Header Fields Too Large", "the request is too long")
                        : answer(client.request.substr(0, end + 2));
  send_response(fd);
}

std::string MetricsServer::answer(const std::string& request) const {
  std::string_view line = std::string_view(request).substr(0, request.find("\r\n"));
  std::string_view method = line.substr(0, line.find(' '));
  line.remove_prefix(std::min(line.size(), method.size() + 1));
  std::string_view path = line.substr(0, line.find_first_of(" ?"));
  if (method != "GET" && method != "HEAD") {
    return refusal("405 Method Not Allowed", "metrics can be read, with GET");
  }
  if (path != "/metrics") return refusal("404 Not Found", "there is nothing here but /metrics");
  MetricsFormat format = wanted_format(request);
  return response("200 OK", content_type_of(format), host_metrics(base_, format), method == "GET");
}

void MetricsServer::send_response(int fd) {
  Client& client = clients_.at(fd);
  ssize_t sent = ::send(fd, client.response.data(), client.response.size(), MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) return drop(fd);
  if (sent > 0) client.response.erase(0, static_cast<size_t>(sent));
  if (client.response.empty()) return finish(fd);
  loop_.set(fd, POLLOUT, [this, fd](short) { send_response(fd); });
}

// Closed only when the client has closed, or was given time to: what it said too much would have
// the kernel throw the answer away.
void MetricsServer::finish(int fd) {
  ::shutdown(fd, SHUT_WR);
  loop_.set(fd, POLLIN, [this, fd](short) {
    std::array<char, 2048> ignored{};
    ssize_t got = ::recv(fd, ignored.data(), ignored.size(), 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) drop(fd);
  });
}

Result<int> serve_metrics(const std::string& address, const std::string& base) {
  VMHOP_ASSIGN(HostPort local, parse_host_port(address));
  VMHOP_ASSIGN(EndSignals signals, EndSignals::block());
  VMHOP_ASSIGN(auto loop, EventLoop::create());
  VMHOP_ASSIGN(UniqueFd listening, listen_tcp(local));
  VMHOP_ASSIGN(local.port, local_port(listening.get()));
  VMHOP_ASSIGN(auto server, MetricsServer::start(*loop, std::move(listening), base));
  loop->set(signals.fd(), POLLIN, [&](short) {
    if (signals.take() != 0) loop->stop();
  });
  spdlog::info("metrics are served at http://{}/metrics", local.to_string());
  VMHOP_TRY(loop->run());
  return kExitDone;
}

}  // namespace vmhop

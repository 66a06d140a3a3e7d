#include "backend/session/tcp.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <vector>

#include "backend/session/deadline.h"

namespace vmhop {
namespace {

// A peer that vanished is noticed after 10 s of silence and 4 probes, or with data under way after
// kUserTimeoutMs: long enough for a switch to fail over.
constexpr int kKeepIdleSeconds = 10;
constexpr int kKeepIntervalSeconds = 4;
constexpr int kKeepProbes = 4;
constexpr unsigned kUserTimeoutMs = 25'000;

struct AddrInfoDeleter {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using AddrInfoPtr = std::unique_ptr<addrinfo, AddrInfoDeleter>;

Result<AddrInfoPtr> resolve(const HostPort& where, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  std::string port = std::to_string(where.port);
  int failure =
      ::getaddrinfo(where.host.empty() ? nullptr : where.host.c_str(), port.c_str(), &hints, &list);
  if (failure == 0) return AddrInfoPtr(list);
  std::string cause = failure == EAI_SYSTEM ? Error::from_errno("resolver", errno).message()
                                            : ::gai_strerror(failure);
  return refusedf("the host name '{}' has no address ({}). Check the name, or give an address",
                  where.host, cause);
}

template <typename T>
Status set_option(int socket, int level, int option, T value, const char* what) {
  if (::setsockopt(socket, level, option, &value, sizeof value) == 0) return ok_status();
  return Error::from_errno(fmt::format("setting {} on a socket", what), errno);
}

Result<UniqueFd> open_socket(const addrinfo& address) {
  UniqueFd socket(::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error::from_errno("creating a TCP socket", errno);
  return socket;
}

Error connect_error(const HostPort& peer, int cause) {
  const std::string where = peer.to_string();
  switch (cause) {
    case ECONNREFUSED:
      return refusedf(
          "nobody listens at {}. Start 'vmhop receive' there first, and check host and port",
          where);
    case ETIMEDOUT:
      return Error(fmt::format("no answer from {}. Check the address, and that no firewall drops "
                               "the connection",
                               where),
                   ErrorKind::kTimedOut);
    case EHOSTUNREACH:
    case ENETUNREACH:
      return refusedf("{} cannot be reached from here ({}). Check the address and the routes",
                      where, Error::from_errno("connect", cause).message());
    default:
      return Error::from_errno("connecting to " + where, cause);
  }
}

Result<UniqueFd> connect_one(const HostPort& peer, const addrinfo& address, int timeout_ms) {
  VMHOP_ASSIGN(UniqueFd socket, open_socket(address));
  VMHOP_TRY(tune_tcp(socket.get()));
  if (::connect(socket.get(), address.ai_addr, address.ai_addrlen) == 0) return socket;
  if (errno != EINPROGRESS && errno != EINTR) return connect_error(peer, errno);
  VMHOP_ASSIGN(short ready, wait_fd(socket.get(), POLLOUT, timeout_ms));
  if (ready == 0) return connect_error(peer, ETIMEDOUT);
  int cause = 0;
  socklen_t size = sizeof cause;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &cause, &size) != 0) cause = errno;
  if (cause != 0) return connect_error(peer, cause);
  return socket;
}

Result<UniqueFd> listen_one(const HostPort& local, const addrinfo& address) {
  VMHOP_ASSIGN(UniqueFd socket, open_socket(address));
  VMHOP_TRY(set_option(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"));
  if (address.ai_family == AF_INET6) {
    // "[::]" or no host at all means every address of IPv4 too, whatever the system's default.
    VMHOP_TRY(set_option(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0, "IPV6_V6ONLY"));
  }
  if (::bind(socket.get(), address.ai_addr, address.ai_addrlen) != 0 ||
      ::listen(socket.get(), SOMAXCONN) != 0) {
    int cause = errno;
    const std::string where = local.to_string();
    if (cause == EADDRINUSE) {
      return refusedf("port {} is taken at {}. Choose another one with --listen", local.port,
                      where);
    }
    if (cause == EADDRNOTAVAIL) {
      return refusedf("{} is no address of this host. Listen on one of its own, or on ':{}'", where,
                      local.port);
    }
    if (cause == EACCES) {
      return refusedf("no permission to listen on {}. Choose a port above 1023", where);
    }
    return Error::from_errno("listening on " + where, cause);
  }
  return socket;
}

}  // namespace

std::string HostPort::to_string() const {
  bool ipv6 = host.find(':') != std::string::npos;
  return ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

Result<HostPort> parse_host_port(std::string_view text) {
  auto malformed = [text](std::string_view why) {
    return refusedf("'{}' is not HOST:PORT ({}). Write 'host:4000', '10.0.0.2:4000', '[::1]:4000'",
                    text, why);
  };
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return malformed("the port is missing");
  std::string_view host = text.substr(0, colon);
  std::string_view digits = text.substr(colon + 1);
  if (host.starts_with('[')) {
    if (!host.ends_with(']') || host.size() < 4) return malformed("the brackets do not close");
    host = host.substr(1, host.size() - 2);
    if (host.find(':') == std::string_view::npos) return malformed("no IPv6 address in brackets");
  } else if (host.find(':') != std::string_view::npos) {
    return malformed("an IPv6 address belongs in brackets");
  }
  if (host.find_first_of("[]/ \t\n") != std::string_view::npos) return malformed("what a host");
  uint16_t port = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size()) {
    return malformed("a port is a number up to 65535");
  }
  return HostPort{std::string(host), port};
}

Result<UniqueFd> connect_tcp(const HostPort& peer, int timeout_ms) {
  if (peer.host.empty() || peer.port == 0) {
    return refusedf("'{}' names no host and port to connect to", peer.to_string());
  }
  VMHOP_ASSIGN(AddrInfoPtr addresses, resolve(peer, 0));
  Deadline deadline(timeout_ms);
  int left = 0;
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next)
    ++left;
  // Each address gets its share of the time, so that one that is silent does not hide the next.
  Result<UniqueFd> result = connect_error(peer, ETIMEDOUT);
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next, --left) {
    result = connect_one(peer, *a, deadline.left_ms() / left);
    if (result) return result;
  }
  return result;
}

Result<UniqueFd> listen_tcp(const HostPort& local) {
  VMHOP_ASSIGN(AddrInfoPtr addresses, resolve(local, AI_PASSIVE));
  // IPv6 first: one such socket serves both families. A host without IPv6 has IPv4 left.
  std::vector<const addrinfo*> order;
  for (const addrinfo* a = addresses.get(); a != nullptr; a = a->ai_next)
    order.push_back(a);
  std::stable_partition(order.begin(), order.end(),
                        [](const addrinfo* a) { return a->ai_family == AF_INET6; });
  std::optional<Error> first_failure;
  for (const addrinfo* a : order) {
    Result<UniqueFd> socket = listen_one(local, *a);
    if (socket) return socket;
    if (!first_failure) first_failure = socket.error();
  }
  return first_failure.value_or(errorf("no address to listen on for {}", local.to_string()));
}

Result<uint16_t> local_port(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return Error::from_errno("asking for the port of a socket", errno);
  }
  in_port_t port = address.ss_family == AF_INET6
                       ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                       : reinterpret_cast<sockaddr_in*>(&address)->sin_port;
  return ntohs(port);
}

std::string peer_address(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host.data(), host.size(),
                    port.data(), port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "an unknown peer";
  }
  std::string_view name = host.data();
  // An IPv4 peer of a socket for both families.
  if (name.starts_with("::ffff:")) name.remove_prefix(7);
  bool ipv6 = name.find(':') != std::string_view::npos;
  return ipv6 ? fmt::format("[{}]:{}", name, port.data()) : fmt::format("{}:{}", name, port.data());
}

std::string local_address(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  std::array<char, NI_MAXHOST> host{};
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host.data(), host.size(), nullptr,
                    0, NI_NUMERICHOST) != 0) {
    return "";
  }
  std::string_view name = host.data();
  if (name.starts_with("::ffff:")) name.remove_prefix(7);
  return std::string(name);
}

Status tune_tcp(int socket) {
  VMHOP_TRY(set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"));
  VMHOP_TRY(set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE"));
  VMHOP_TRY(set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepIdleSeconds, "TCP_KEEPIDLE"));
  VMHOP_TRY(set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepIntervalSeconds, "TCP_KEEPINTVL"));
  VMHOP_TRY(set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, kKeepProbes, "TCP_KEEPCNT"));
  return set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs, "TCP_USER_TIMEOUT");
}

}  // namespace vmhop

#include "backend/session/acceptor.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "backend/base/event_loop.h"
#include "backend/session/lane_registry.h"
#include "backend/session/plain_lane.h"
#include "backend/session/refusal_log.h"
#include "backend/session/tls_handshake.h"

namespace vmhop {
namespace {

constexpr std::byte kTlsHandshakeRecord{0x16};
constexpr std::byte kPlainLaneMagic{'V'};
// Connections taken at one go, so that handshakes get their turn under a flood.
constexpr int kAcceptsPerRound = 16;
// How long to wait when descriptors have run out.
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

// One connection until it has proved who it is.
struct Newcomer {
  int fd = -1;      // of the socket, whoever owns it
  UniqueFd socket;  // until its first byte is here
  std::string peer;
  std::string host;  // the peer without its port
  EventLoop::TimerId deadline = 0;
  std::unique_ptr<TlsHandshake> tls;
  std::unique_ptr<PlainLaneAcceptance> plain;
  std::optional<Error> refusal;  // why the identity it claimed is not welcome
};

class PortAcceptor final : public Acceptor {
 public:
  PortAcceptor(std::unique_ptr<EventLoop> loop, UniqueFd listening, uint16_t port,
               Credentials credentials, SharedCertificates certificates, Callback callback,
               Options options)
      : loop_(std::move(loop)),
        listening_(std::move(listening)),
        port_(port),
        credentials_(std::move(credentials)),
        certificates_(std::move(certificates)),
        callback_(std::move(callback)),
        options_(options) {
    loop_->set(listening_.get(), POLLIN, [this](short) { accept_newcomers(); });
    thread_ = std::thread([this] { serve(); });
  }

  ~PortAcceptor() override {
    loop_->stop();
    thread_.join();
  }
  PortAcceptor(const PortAcceptor&) = delete;
  PortAcceptor& operator=(const PortAcceptor&) = delete;

  uint16_t port() const override { return port_; }

  Status expect_lanes(std::span<const LaneId> lanes, const Secret& lane_secret,
                      DataProtection protection) override {
    return lanes_.expect(lanes, lane_secret, protection);
  }

  void forget_lanes(const RelocationId& relocation) override { lanes_.forget(relocation); }

 private:
  using NewcomerId = uint64_t;  // in the order of arrival

  // Everything below runs in thread_.
  void serve();
  void accept_newcomers();
  void welcome(UniqueFd socket);
  void make_room();
  void advance(NewcomerId id);
  Result<short> step(Newcomer& newcomer);
  Status choose_protocol(Newcomer& newcomer);
  std::optional<Secret> find_psk(Newcomer& newcomer, std::string_view identity);
  Result<AcceptedConnection> finish(Newcomer& newcomer);
  void drop(NewcomerId id, const Error& why);

  std::unique_ptr<EventLoop> loop_;
  UniqueFd listening_;
  uint16_t port_;
  Credentials credentials_;
  SharedCertificates certificates_;  // of the credentials
  Callback callback_;
  Options options_;
  LaneRegistry lanes_;
  std::map<NewcomerId, Newcomer> newcomers_;
  NewcomerId next_id_ = 1;
  RefusalLog refusals_;
  std::thread thread_;
};

void PortAcceptor::serve() {
  if (Status served = loop_->run(); !served) {
    spdlog::error("port {} is served no more: {}", port_, served.error().message());
  }
}

void PortAcceptor::accept_newcomers() {
  for (int i = 0; i < kAcceptsPerRound; ++i) {
    UniqueFd socket(::accept4(listening_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket.valid()) {
      welcome(std::move(socket));
      continue;
    }
    if (errno == EAGAIN) return;
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      spdlog::warn("port {}: {}; trying again", port_,
                   Error::from_errno("accept", errno).message());
      loop_->set_events(listening_.get(), 0);
      loop_->after(kAcceptPause, [this] { loop_->set_events(listening_.get(), POLLIN); });
      return;
    }
    // Anything else is the trouble of one connection that was gone before it was accepted.
  }
}

void PortAcceptor::welcome(UniqueFd socket) {
  if (newcomers_.size() >= options_.max_handshakes) make_room();
  NewcomerId id = next_id_++;
  int fd = socket.get();
  Newcomer& newcomer = newcomers_[id];
  newcomer.peer = peer_address(fd);
  newcomer.host = newcomer.peer.substr(0, newcomer.peer.rfind(':'));
  newcomer.fd = fd;
  newcomer.socket = std::move(socket);
  newcomer.deadline = loop_->after(std::chrono::milliseconds(options_.handshake_timeout_ms), [this,
                                                                                              id] {
    drop(id,
         Error(fmt::format("it did not say who it is within {} ms", options_.handshake_timeout_ms),
               ErrorKind::kTimedOut));
  });
  loop_->set(fd, POLLIN, [this, id](short) { advance(id); });
  if (Status tuned = tune_tcp(fd); !tuned) drop(id, tuned.error());
}

void PortAcceptor::make_room() {
  std::map<std::string_view, std::vector<NewcomerId>> by_host;
  for (const auto& [id, newcomer] : newcomers_)
    by_host[newcomer.host].push_back(id);
  auto fullest = std::max_element(by_host.begin(), by_host.end(), [](const auto& a, const auto& b) {
    return a.second.size() < b.second.size();
  });
  drop(fullest->second.front(),
       errorf("{} handshakes are under way, {} of them from its address, and it is the oldest",
              newcomers_.size(), fullest->second.size()));
}

void PortAcceptor::advance(NewcomerId id) {
  Newcomer& newcomer = newcomers_.at(id);
  auto events = step(newcomer);
  if (!events) return drop(id, newcomer.refusal.value_or(events.error()));
  if (*events != 0) return loop_->set_events(newcomer.fd, *events);

  loop_->remove(newcomer.fd);
  loop_->cancel(newcomer.deadline);
  Newcomer done = std::move(newcomer);
  newcomers_.erase(id);
  auto connection = finish(done);
  if (!connection) {
    return refusals_.add(done.peer, connection.error());
  }
  callback_(*std::move(connection));
}

// The events to wait for, 0 when the newcomer has proved who it is.
Result<short> PortAcceptor::step(Newcomer& newcomer) {
  if (!newcomer.tls && !newcomer.plain) {
    VMHOP_TRY(choose_protocol(newcomer));
  }
  if (newcomer.tls) return newcomer.tls->step();
  if (newcomer.plain) return newcomer.plain->step();
  return short{POLLIN};
}

// Looks at the first byte, if it is here, and leaves it there.
Status PortAcceptor::choose_protocol(Newcomer& newcomer) {
  std::byte first{};
  ssize_t got = ::recv(newcomer.socket.get(), &first, 1, MSG_PEEK);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return ok_status();
  if (got <= 0) return Error("it closed the connection without a word", ErrorKind::kClosed);
  if (first == kTlsHandshakeRecord) {
    auto lookup = [this, &newcomer](std::string_view identity) {
      return find_psk(newcomer, identity);
    };
    VMHOP_ASSIGN(newcomer.tls,
                 TlsHandshake::server(std::move(newcomer.socket), lookup, certificates_));
    return ok_status();
  }
  if (first == kPlainLaneMagic) {
    VMHOP_ASSIGN(newcomer.plain, PlainLaneAcceptance::create(std::move(newcomer.socket), lanes_));
    return ok_status();
  }
  return refusedf("it does not speak vmhop's protocol");
}

std::optional<Secret> PortAcceptor::find_psk(Newcomer& newcomer, std::string_view identity) {
  auto find = [this, identity]() -> Result<Secret> {
    VMHOP_ASSIGN(auto id, parse_identity(identity));
    const auto* session = std::get_if<SessionId>(&id);
    if (session != nullptr && certificates_) {
      return refusedf(
          "it has a pre-shared key, and this side was given certificates (--tls-creds): give both "
          "the same");
    }
    if (session != nullptr) return session_psk(*credentials_.key(), *session);
    return lanes_.find_psk(std::get<LaneId>(id), DataProtection::kEncrypted);
  };
  auto psk = find();
  if (psk) {
    newcomer.refusal.reset();
    return *std::move(psk);
  }
  newcomer.refusal = psk.error();
  return std::nullopt;
}

Result<AcceptedConnection> PortAcceptor::finish(Newcomer& newcomer) {
  if (newcomer.plain) {
    LaneId id = newcomer.plain->id();
    return AcceptedConnection(AcceptedLane{id, newcomer.peer, newcomer.plain->finish()});
  }
  std::unique_ptr<TlsStream> stream = newcomer.tls->finish();
  if (stream->identity() == kCertificateSession) {
    return AcceptedConnection(AcceptedSession{"", newcomer.peer, std::move(stream)});
  }
  VMHOP_ASSIGN(auto id, parse_identity(stream->identity()));
  if (auto* session = std::get_if<SessionId>(&id)) {
    return AcceptedConnection(
        AcceptedSession{std::move(session->vm), newcomer.peer, std::move(stream)});
  }
  const LaneId& lane = std::get<LaneId>(id);
  VMHOP_TRY(lanes_.take(lane));
  return AcceptedConnection(AcceptedLane{lane, newcomer.peer, std::move(stream)});
}

void PortAcceptor::drop(NewcomerId id, const Error& why) {
  Newcomer& newcomer = newcomers_.at(id);
  refusals_.add(newcomer.peer, why);
  loop_->remove(newcomer.fd);
  loop_->cancel(newcomer.deadline);
  newcomers_.erase(id);
}

}  // namespace

Result<std::unique_ptr<Acceptor>> Acceptor::start(UniqueFd listening,
                                                  const Credentials& credentials, Callback callback,
                                                  Options options) {
  SharedCertificates certificates;
  if (credentials.certificates()) {
    VMHOP_ASSIGN(Certificates parsed, Certificates::parse(credentials.certificates()));
    if (parsed.files().role != SessionRole::kDestination) {
      return Error("a source's certificates came for a destination");
    }
    certificates = std::make_shared<const Certificates>(std::move(parsed));
  }
  VMHOP_ASSIGN(uint16_t port, local_port(listening.get()));
  VMHOP_TRY(set_nonblocking(listening.get()));
  VMHOP_ASSIGN(auto loop, EventLoop::create());
  return std::unique_ptr<Acceptor>(
      std::make_unique<PortAcceptor>(std::move(loop), std::move(listening), port, credentials,
                                     std::move(certificates), std::move(callback), options));
}

}  // namespace vmhop

#include "backend/destination_link.h"

#include <poll.h>
#include <spdlog/spdlog.h>

namespace vmhop {
namespace {

using std::chrono::milliseconds;

// Sources that have the key and say nothing.
constexpr size_t kMaxNewcomers = 8;
constexpr milliseconds kHelloTimeout{5000};
constexpr int kFlushTimeoutMs = 1000;

}  // namespace

Result<std::unique_ptr<DestinationLink>> DestinationLink::listen(EventLoop& loop,
                                                                 const Credentials& credentials,
                                                                 UniqueFd listening,
                                                                 Callbacks callbacks) {
  std::unique_ptr<DestinationLink> self(new DestinationLink(loop, std::move(callbacks)));
  VMHOP_ASSIGN(
      self->acceptor_,
      Acceptor::start(std::move(listening), credentials,
                      [raw = self.get(), &loop, alive = self->alive_](AcceptedConnection accepted) {
                        // std::function wants copies; the connection has just one owner.
                        auto held = std::make_shared<AcceptedConnection>(std::move(accepted));
                        loop.post([raw, alive, held] {
                          if (*alive) raw->on_accepted(std::move(*held));
                        });
                      }));
  return self;
}

DestinationLink::~DestinationLink() {
  *alive_ = false;
  acceptor_.reset();
  if (session_) loop_.remove(session_->fd());
  for (const auto& [fd, newcomer] : newcomers_)
    loop_.remove(fd);
}

void DestinationLink::on_accepted(AcceptedConnection connection) {
  if (auto* session = std::get_if<AcceptedSession>(&connection)) {
    return on_session(std::move(*session));
  }
  on_lane(std::move(std::get<AcceptedLane>(connection)));
}

void DestinationLink::on_session(AcceptedSession session) {
  auto secret = session.stream->export_secret(kLaneSecretLabel);
  if (!secret) return spdlog::warn("{}: {}", session.peer, secret.error().message());
  if (newcomers_.size() >= kMaxNewcomers) {
    return spdlog::warn("{} is turned away: too many sources have said nothing yet", session.peer);
  }
  Newcomer newcomer{MessageStream::create(std::move(session.stream)),
                    std::make_unique<Secret>(std::move(*secret)), session.peer};
  int fd = newcomer.session->fd();
  newcomers_.insert_or_assign(fd, std::move(newcomer));
  loop_.set(fd, POLLIN, [this, fd](short) { serve_newcomer(fd); });
  loop_.after(kHelloTimeout, [this, alive = alive_, fd, peer = session.peer] {
    if (!*alive) return;
    auto it = newcomers_.find(fd);
    if (it == newcomers_.end() || it->second.peer != peer) return;
    spdlog::warn("{} connected and said nothing", peer);
    loop_.remove(fd);
    newcomers_.erase(it);
  });
  serve_newcomer(fd);  // Hello may have come with the handshake
}

void DestinationLink::serve_newcomer(int fd) {
  auto it = newcomers_.find(fd);
  auto message = it->second.session->receive();
  if (message && !*message) return;
  Newcomer newcomer = std::move(it->second);
  newcomers_.erase(it);
  loop_.remove(fd);
  auto turn_away = [&newcomer](const std::string& reason) {
    (void)newcomer.session->send(Refuse{reason});
    (void)newcomer.session->flush_blocking(kFlushTimeoutMs);
  };
  if (!message) {
    spdlog::warn("{}: {}", newcomer.peer, message.error().message());
    // Another version's hello, for one: its user should hear why.
    if (message.error().kind() == ErrorKind::kRefused) turn_away(message.error().message());
    return;
  }
  const auto* hello = std::get_if<Hello>(&**message);
  if (hello == nullptr) {
    return spdlog::warn("{} began with {} instead of hello", newcomer.peer,
                        message_name(**message));
  }
  if (auto objection = callbacks_.objection(*hello)) {
    spdlog::warn("{} is refused: {}", newcomer.peer, *objection);
    return turn_away(*objection);
  }
  welcome(std::move(newcomer), *hello);
}

void DestinationLink::welcome(Newcomer newcomer, const Hello& hello) {
  close();
  session_ = std::move(newcomer.session);
  peer_ = newcomer.peer;
  hello_ = hello;
  ++generation_;
  auto lanes =
      make_lane_ids(hello.relocation, hello.fault_lanes, hello.bulk_lanes, hello.lane_generation);
  if (Status expected = acceptor_->expect_lanes(lanes, *newcomer.lane_secret, hello.data);
      !expected) {
    return lose(expected.error());
  }
  loop_.set(session_->fd(), session_->wanted_events(), [this](short) { serve(); });
  callbacks_.on_up();
  // More may have arrived with it; the socket need not say so again.
  serve();
}

void DestinationLink::on_lane(AcceptedLane lane) {
  if (!session_ || lane.id.generation != hello_.lane_generation) return;
  ++lanes_arrived_;
  callbacks_.on_lane(std::move(lane));
}

void DestinationLink::close() {
  bool had_session = session_ != nullptr;
  if (had_session) loop_.remove(session_->fd());
  session_.reset();
  lanes_arrived_ = 0;
  if (!had_session) return;
  acceptor_->forget_lanes(hello_.relocation);
  callbacks_.on_down();
}

void DestinationLink::lose(const Error& error) {
  if (!session_) return;
  close();
  callbacks_.on_lost(error);
}

void DestinationLink::send(const Message& message) {
  if (!session_) return;
  if (Status sent = session_->send(message); !sent) return lose(sent.error());
  update_events();
}

void DestinationLink::flush() {
  if (session_) (void)session_->flush_blocking(kFlushTimeoutMs);
}

void DestinationLink::serve() {
  if (!session_) return;
  if (Status flushed = session_->flush(); !flushed) return lose(flushed.error());
  while (session_) {
    auto message = session_->receive();
    if (!message) return lose(message.error());
    if (!*message) break;
    callbacks_.on_message(**message);
  }
  update_events();
}

void DestinationLink::update_events() {
  if (session_) loop_.set_events(session_->fd(), session_->wanted_events());
}

}  // namespace vmhop

#include "backend/source_session.h"

#include <poll.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace vmhop {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstRedial{50};
constexpr milliseconds kSlowestRedial{2000};
constexpr milliseconds kPingInterval{1000};
constexpr int kPingVolley = 8;
// A destination that answers nothing for so long is as good as unconnected: dial anew.
constexpr milliseconds kSilence{10'000};
constexpr int kFlushTimeoutMs = 1000;

}  // namespace

SourceSession::~SourceSession() {
  *alive_ = false;
  if (stream_) loop_.remove(stream_->fd());
}

void SourceSession::dial(std::function<Result<SourceLink>()> connect) {
  redial_scheduled_ = false;
  worker_.post([this, &loop = loop_, alive = alive_, connect = std::move(connect)] {
    auto link = std::make_shared<Result<SourceLink>>(connect());
    loop.post([this, alive, link] {
      if (!*alive) return;
      if (!*link) return callbacks_.on_dial_failed(link->error());
      adopt(std::move(**link));
    });
  });
}

void SourceSession::redial_later() {
  if (redial_scheduled_) return;
  redial_scheduled_ = true;
  redial_delay_ = std::clamp(redial_delay_ * 2, kFirstRedial, kSlowestRedial);
  loop_.after(redial_delay_, [this, alive = alive_] {
    if (*alive) callbacks_.on_redial();
  });
}

void SourceSession::adopt(SourceLink link) {
  redial_delay_ = milliseconds(0);
  stream_ = std::move(link.session);
  uint64_t generation = ++generation_;
  last_heard_ = Clock::now();
  loop_.set(stream_->fd(), stream_->wanted_events(), [this](short) { serve(); });
  std::vector<Message> early = std::move(link.early);
  callbacks_.on_up(std::move(link));
  for (const Message& message : early) {
    if (stream_ && generation == generation_) take(message);
  }
}

void SourceSession::lose(const Error& error) {
  if (!stream_) return;
  loop_.remove(stream_->fd());
  stream_.reset();
  ++generation_;
  callbacks_.on_lost(error);
}

void SourceSession::send(const Message& message) {
  if (!stream_) return;
  if (Status sent = stream_->send(message); !sent) return lose(sent.error());
  update_events();
}

void SourceSession::flush() {
  if (stream_) (void)stream_->flush_blocking(kFlushTimeoutMs);
}

void SourceSession::serve() {
  if (Status flushed = stream_->flush(); !flushed) return lose(flushed.error());
  receive_all();
  update_events();
}

void SourceSession::receive_all() {
  while (stream_) {
    auto message = stream_->receive();
    if (!message) return lose(message.error());
    if (!*message) return;
    last_heard_ = Clock::now();
    take(**message);
  }
}

void SourceSession::take(const Message& message) {
  if (const auto* ping = std::get_if<Ping>(&message)) return send(Pong{ping->cookie});
  if (!std::holds_alternative<Pong>(message)) return callbacks_.on_message(message);
  auto measured = std::chrono::nanoseconds(Clock::now() - ping_sent_);
  round_trip_ = round_trip_ ? std::min(*round_trip_, measured) : measured;
  if (volley_left_ > 0 && --volley_left_ > 0) send_ping();
}

void SourceSession::update_events() {
  if (!stream_) return;
  loop_.set_events(stream_->fd(), stream_->wanted_events());
  callbacks_.on_queue_changed();
}

void SourceSession::start_pings() {
  ping();
}

void SourceSession::ping() {
  if (stream_) {
    if (Clock::now() - last_heard_ > kSilence) {
      lose(Error("the destination has been silent for 10 s", ErrorKind::kTimedOut));
    } else {
      send_ping();
    }
  }
  loop_.after(kPingInterval, [this, alive = alive_] {
    if (*alive) ping();
  });
}

void SourceSession::measure_round_trip() {
  volley_left_ = kPingVolley;
  send_ping();
}

void SourceSession::send_ping() {
  ping_sent_ = Clock::now();
  send(Ping{static_cast<uint64_t>(ping_sent_.time_since_epoch().count())});
}

}  // namespace vmhop

// An acceptor on the loopback, and what arrives there.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "backend/session/acceptor.h"
#include "backend/session/lane.h"
#include "tests/session/tcp_pair.h"
#include "tests/session/tls_pair.h"

namespace vmhop::testing_support {

inline constexpr RelocationId kRelocation{1, 2, 3, 4};

// Holds what an acceptor hands over until a test asks for it.
class Arrivals {
 public:
  Acceptor::Callback callback() {
    return [this](AcceptedConnection connection) {
      std::lock_guard lock(mutex_);
      arrived_.push_back(std::move(connection));
      changed_.notify_all();
    };
  }
  std::optional<AcceptedConnection> next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::milliseconds(kPatience),
                           [this] { return !arrived_.empty(); })) {
      return std::nullopt;
    }
    AcceptedConnection connection = std::move(arrived_.front());
    arrived_.pop_front();
    return connection;
  }
  size_t waiting() {
    std::lock_guard lock(mutex_);
    return arrived_.size();
  }

 private:
  std::mutex mutex_;  // guards arrived_
  std::condition_variable changed_;
  std::deque<AcceptedConnection> arrived_;
};

class AnAcceptor : public testing::Test {
 protected:
  void SetUp() override { serve(Acceptor::Options()); }

  void serve(Acceptor::Options options) {
    acceptor_.reset();
    UniqueFd listening = listen_on_loopback();
    address_ = address_of(listening);
    acceptor_ =
        Acceptor::start(std::move(listening), key_.clone(), arrivals_.callback(), options).value();
  }

  Result<std::unique_ptr<TlsStream>> dial_session(const Secret& key) {
    SessionId id{"web"};
    VMHOP_ASSIGN(UniqueFd socket, connect_tcp(address_, kPatience));
    VMHOP_ASSIGN(Secret psk, session_psk(key, id));
    return connect_tls(std::move(socket), to_identity(id), psk, kPatience);
  }

  auto dial(const LaneId& id, DataProtection protection) {
    return dial_lane(address_, id, lane_secret_, protection, kPatience);
  }

  // Nothing that was sent before is still under way: a session that came later is through.
  void expect_no_arrival_but_a_new_session() {
    auto session = dial_session(key_);
    ASSERT_TRUE(session.ok()) << session.error().message();
    auto arrived = arrivals_.next();
    ASSERT_TRUE(arrived.has_value());
    EXPECT_TRUE(std::holds_alternative<AcceptedSession>(*arrived));
    EXPECT_EQ(arrivals_.waiting(), 0U);
  }

  Secret key_ = Secret::random().value();
  Secret lane_secret_ = Secret::random().value();
  std::vector<LaneId> lanes_ = make_lane_ids(kRelocation, 1, 2, 0x1234);
  HostPort address_;
  Arrivals arrivals_;
  std::unique_ptr<Acceptor> acceptor_;  // last: its callbacks end before what they use
};

inline void expect_connected(ByteStream& a, ByteStream& b) {
  std::array<std::byte, 4> out{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  std::array<std::byte, 4> in{};
  ASSERT_TRUE(write_exactly(a, out, kPatience).ok());
  ASSERT_TRUE(read_exactly(b, in, kPatience).ok());
  EXPECT_EQ(in, out);
  ASSERT_TRUE(write_exactly(b, out, kPatience).ok());
  ASSERT_TRUE(read_exactly(a, in, kPatience).ok());
}

// The connection ends, perhaps after a TLS alert.
inline void expect_hung_up(int socket) {
  std::array<std::byte, 64> parting{};
  ssize_t got = 0;
  do {
    ASSERT_GT(wait_fd(socket, POLLIN, kPatience).value(), 0);
    got = ::recv(socket, parting.data(), parting.size(), 0);
  } while (got > 0);
  EXPECT_TRUE(got == 0 || errno == ECONNRESET) << errno;
}

}  // namespace vmhop::testing_support

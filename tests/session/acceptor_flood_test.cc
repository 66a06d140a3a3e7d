// Strangers without a key who open connections and leave them: the port stays open to who has one.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <thread>
#include <vector>

#include "backend/session/plain_lane.h"
#include "backend/session/tls_handshake.h"
#include "tests/session/acceptor_fixture.h"

namespace vmhop {
namespace {

using namespace testing_support;

constexpr size_t kStrangers = 1000;

size_t open_descriptors() {
  auto all = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

size_t resident_kib() {
  std::string status = read_file("/proc/self/status", 1 << 16).value();
  size_t at = status.find_first_of("0123456789", status.find("VmRSS:"));
  size_t kib = 0;
  (void)std::from_chars(status.data() + at, status.data() + status.size(), kib);
  return kib;
}

class AFloodedAcceptor : public AnAcceptor {
 protected:
  void SetUp() override {
    AnAcceptor::SetUp();
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < 2 * kStrangers) GTEST_SKIP() << "too few descriptors for so many";
  }

  // Another address of the loopback, as another host would have.
  Result<UniqueFd> connect_from(const char* source) {
    UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    ::inet_pton(AF_INET, source, &address.sin_addr);
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      return Error::from_errno("bind", errno);
    }
    ::inet_pton(AF_INET, address_.host.c_str(), &address.sin_addr);
    address.sin_port = htons(address_.port);
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      return Error::from_errno("connect", errno);
    }
    return socket;
  }

  void expect_session_and_lanes() {
    ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, DataProtection::kEncrypted).ok());
    expect_no_arrival_but_a_new_session();
    for (const LaneId& id : lanes_) {
      auto lane = dial(id, DataProtection::kEncrypted);
      ASSERT_TRUE(lane.ok()) << lane.error().message();
      auto arrived = arrivals_.next();
      ASSERT_TRUE(arrived.has_value());
      EXPECT_EQ(std::get<AcceptedLane>(*arrived).id, id);
    }
  }

  // Those that were not hung up on.
  static size_t still_connected(const std::vector<UniqueFd>& sockets) {
    size_t count = 0;
    for (const UniqueFd& socket : sockets)
      count += wait_fd(socket.get(), POLLIN, 0).value() == 0 ? 1 : 0;
    return count;
  }
};

TEST_F(AFloodedAcceptor, LetsTheSourceInAmongAThousandThatSayNothingOrHalfOfIt) {
  std::vector<UniqueFd> strangers;
  for (size_t i = 0; i < kStrangers; ++i) {
    static constexpr std::array<std::string_view, 5> kBeginnings{"", "\x16", "\x16\x03\x01\x02",
                                                                 "V", "VMHL"};
    strangers.push_back(connect_tcp(address_, kPatience).value());
    std::string_view beginning = kBeginnings[i % kBeginnings.size()];
    // It may have been hung up on already.
    ::send(strangers.back().get(), beginning.data(), beginning.size(), MSG_NOSIGNAL);
  }
  expect_session_and_lanes();
  EXPECT_LE(still_connected(strangers), Acceptor::kMaxHandshakes);
}

TEST_F(AFloodedAcceptor, HoldsNoMoreThanItsLimitOfHandshakesThatStopInTheMiddle) {
  size_t descriptors = open_descriptors();
  [[maybe_unused]] size_t kib = resident_kib();
  // A whole ClientHello, with an identity and a key share.
  SessionId id{"web"};
  auto ends = socket_pair(SOCK_STREAM).value();
  auto client =
      TlsHandshake::client(std::move(ends.first), to_identity(id), session_psk(key_, id).value());
  ASSERT_TRUE((*client)->step().ok());
  std::array<char, 4096> hello{};
  ssize_t length = ::recv(ends.second.get(), hello.data(), hello.size(), 0);
  ASSERT_GT(length, 0);
  std::vector<UniqueFd> strangers;
  for (size_t i = 0; i < kStrangers / 2; ++i) {
    // Each says it, and then goes silent.
    strangers.push_back(connect_tcp(address_, kPatience).value());
    ::send(strangers.back().get(), hello.data(), static_cast<size_t>(length), MSG_NOSIGNAL);
  }
  expect_session_and_lanes();
  EXPECT_LE(open_descriptors(), descriptors + strangers.size() + Acceptor::kMaxHandshakes + 8);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  // Theirs are in this process too, hence for all of them.
  EXPECT_LE(resident_kib(), kib + 128 * (strangers.size() + Acceptor::kMaxHandshakes));
#endif
}

TEST_F(AFloodedAcceptor, LetsALaneInAmongPrefacesWithoutProof) {
  ASSERT_TRUE(acceptor_->expect_lanes(lanes_, lane_secret_, DataProtection::kPlain).ok());
  std::vector<UniqueFd> strangers;
  LanePreface preface = make_lane_preface(lanes_[0], LaneNonce{});
  for (size_t i = 0; i < kStrangers / 2; ++i) {
    strangers.push_back(connect_tcp(address_, kPatience).value());
    ::send(strangers.back().get(), &preface, sizeof preface, MSG_NOSIGNAL);
  }
  auto lane = dial(lanes_[0], DataProtection::kPlain);
  ASSERT_TRUE(lane.ok()) << lane.error().message();
  EXPECT_TRUE(arrivals_.next().has_value());
}

TEST_F(AFloodedAcceptor, LetsAnotherAddressFinishWhileOneKeepsConnecting) {
  std::atomic<bool> stop{false};
  std::thread flood([&] {
    std::vector<UniqueFd> strangers;
    while (!stop) {
      if (strangers.size() == kStrangers) strangers.clear();
      auto socket = connect_from("127.0.0.2");
      if (socket) strangers.push_back(std::move(*socket));
    }
  });
  for (int i = 0; i < 5; ++i)
    expect_no_arrival_but_a_new_session();
  stop = true;
  flood.join();
}

TEST_F(AFloodedAcceptor, DropsTheOldestOfTheAddressThatHasMost) {
  serve({.handshake_timeout_ms = kPatience, .max_handshakes = 3});
  UniqueFd other = connect_from("127.0.0.3").value();
  UniqueFd first = connect_from("127.0.0.2").value();
  UniqueFd second = connect_from("127.0.0.2").value();
  UniqueFd third = connect_from("127.0.0.2").value();
  expect_hung_up(first.get());
  for (const UniqueFd* socket : {&other, &second, &third})
    EXPECT_EQ(wait_fd(socket->get(), POLLIN, 0).value(), 0);
}

}  // namespace
}  // namespace vmhop

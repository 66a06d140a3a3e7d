#include "backend/session/tcp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "backend/session/byte_stream.h"
#include "tests/session/tcp_pair.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using namespace testing_support;

TEST(HostPort, IsReadInItsForms) {
  EXPECT_EQ(parse_host_port("web.example:4000").value(), (HostPort{"web.example", 4000}));
  EXPECT_EQ(parse_host_port("10.0.0.2:1").value(), (HostPort{"10.0.0.2", 1}));
  EXPECT_EQ(parse_host_port("[::1]:65535").value(), (HostPort{"::1", 65535}));
  EXPECT_EQ(parse_host_port(":4000").value(), (HostPort{"", 4000}));
  for (const char* text : {"a:1", "[fe80::1]:2", ":3"})
    EXPECT_EQ(parse_host_port(text).value().to_string(), text);
}

TEST(HostPort, SaysWhatIsWrong) {
  for (const char* text :
       {"", "host", "host:", "host:x", "host:65536", "host:-1", "host:1x", "::1", "::1:4000",
        "[::1]", "[::1:4000", "[]:1", "[host]:1", "ho st:1", "a/b:1", "host: 1"}) {
    auto parsed = parse_host_port(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.error().kind(), ErrorKind::kRefused);
    EXPECT_THAT(parsed.error().message(), HasSubstr("HOST:PORT"));
  }
}

TEST(Tcp, ConnectsAndNoticesALostPeer) {
  auto sockets = tcp_pair();
  int value = 0;
  socklen_t size = sizeof value;
  ASSERT_EQ(::getsockopt(sockets.first.get(), IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
  EXPECT_EQ(value, 1);
  ASSERT_EQ(::getsockopt(sockets.first.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &size), 0);
  EXPECT_GT(value, 0);
  EXPECT_EQ(peer_address(sockets.second.get()),
            "127.0.0.1:" + std::to_string(local_port(sockets.first.get()).value()));
}

TEST(Tcp, WakesWhoExpectsManyBytesOnceForAll) {
  auto [near, far] = tcp_pair();
  auto stream = make_plain_stream(std::move(near)).value();
  std::array<std::byte, 100> bytes{};
  stream->expect_input(bytes.size());
  ASSERT_TRUE(write_all(far.get(), std::span(bytes).first(99)).ok());
  EXPECT_EQ(wait_fd(stream->fd(), POLLIN, 50).value(), 0);
  ASSERT_TRUE(write_all(far.get(), std::span(bytes).first(1)).ok());
  EXPECT_EQ(wait_fd(stream->fd(), POLLIN, 5000).value(), POLLIN);
  EXPECT_EQ(stream->read_some(bytes).value(), bytes.size());
}

TEST(Tcp, WakesWhoExpectsFewBytesAgain) {
  auto [near, far] = tcp_pair();
  auto stream = make_plain_stream(std::move(near)).value();
  std::array<std::byte, 100> bytes{};
  stream->expect_input(bytes.size());
  stream->expect_input(1);
  ASSERT_TRUE(write_all(far.get(), std::span(bytes).first(1)).ok());
  EXPECT_EQ(wait_fd(stream->fd(), POLLIN, 5000).value(), POLLIN);
}

TEST(Tcp, TellsWhoExpectsManyBytesThatThereWillBeNone) {
  auto [near, far] = tcp_pair();
  auto stream = make_plain_stream(std::move(near)).value();
  stream->expect_input(100);
  far.reset();
  EXPECT_NE(wait_fd(stream->fd(), POLLIN, 5000).value() & POLLIN, 0);
  std::array<std::byte, 1> bytes{};
  auto got = stream->read_some(bytes);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().kind(), ErrorKind::kClosed);
}

TEST(Tcp, ListensOnEveryAddressWhenNoneIsNamed) {
  UniqueFd listening = listen_tcp({"", 0}).value();
  uint16_t port = local_port(listening.get()).value();
  auto connected = connect_tcp({"127.0.0.1", port}, 5000);
  ASSERT_TRUE(connected.ok()) << connected.error().message();
  ASSERT_GT(wait_fd(listening.get(), POLLIN, 5000).value(), 0);
  UniqueFd accepted(::accept(listening.get(), nullptr, nullptr));
  EXPECT_THAT(peer_address(accepted.get()), testing::StartsWith("127.0.0.1:"));
}

TEST(Tcp, SaysWhenNobodyListens) {
  UniqueFd listening = listen_on_loopback();
  HostPort address = address_of(listening);
  listening.reset();
  auto connected = connect_tcp(address, 5000);
  ASSERT_FALSE(connected.ok());
  EXPECT_EQ(connected.error().kind(), ErrorKind::kRefused);
  EXPECT_THAT(connected.error().message(), HasSubstr(address.to_string()));
  EXPECT_THAT(connected.error().message(), HasSubstr("vmhop receive"));
}

TEST(Tcp, SaysWhenThePortIsTaken) {
  UniqueFd listening = listen_on_loopback();
  auto second = listen_tcp(address_of(listening));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), ErrorKind::kRefused);
  EXPECT_THAT(second.error().message(), HasSubstr("taken"));
}

TEST(Tcp, SaysWhenTheAddressIsNotOurs) {
  // TEST-NET-1: nobody's.
  auto listening = listen_tcp({"192.0.2.1", 0});
  ASSERT_FALSE(listening.ok());
  EXPECT_THAT(listening.error().message(), HasSubstr("no address of this host"));
}

TEST(Tcp, SaysWhenThePeerIsNotNamed) {
  EXPECT_FALSE(connect_tcp({"", 4000}, 5000).ok());
  EXPECT_FALSE(connect_tcp({"127.0.0.1", 0}, 5000).ok());
}

}  // namespace
}  // namespace vmhop

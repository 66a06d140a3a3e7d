#include "backend/session/tls.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <future>
#include <vector>

#include "tests/session/tls_pair.h"

namespace vmhop {
namespace {

using namespace testing_support;

class ConnectedTls : public testing::Test {
 protected:
  void SetUp() override {
    auto shaken = shake_hands(psk_, psk_);
    ASSERT_TRUE(shaken.client.ok()) << shaken.client.error().message();
    ASSERT_TRUE(shaken.server.ok()) << shaken.server.error().message();
    client_ = *std::move(shaken.client);
    server_ = *std::move(shaken.server);
  }

  Secret psk_ = Secret::random().value();
  std::unique_ptr<TlsStream> client_;
  std::unique_ptr<TlsStream> server_;
};

std::vector<std::byte> pattern(size_t size, uint32_t seed) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) {
    seed = seed * 1664525 + 1013904223;
    bytes[i] = static_cast<std::byte>(seed >> 24);
  }
  return bytes;
}

// `bytes` in pieces whose sizes cycle through odd, tiny, page and record-sized ones.
std::vector<iovec> scatter(std::vector<std::byte>& bytes) {
  static constexpr std::array<size_t, 8> kSizes{1, 4096, 7, 0, 65536, 24, 16384, 100'003};
  std::vector<iovec> pieces;
  size_t offset = 0;
  for (size_t i = 0; offset < bytes.size(); ++i) {
    size_t size = std::min(kSizes[i % kSizes.size()], bytes.size() - offset);
    pieces.push_back({bytes.data() + offset, size});
    offset += size;
  }
  return pieces;
}

// The pieces after the first `done` bytes.
std::vector<iovec> rest_of(const std::vector<iovec>& pieces, size_t done) {
  std::vector<iovec> rest;
  for (iovec piece : pieces) {
    size_t skip = std::min(done, piece.iov_len);
    done -= skip;
    rest.push_back({static_cast<std::byte*>(piece.iov_base) + skip, piece.iov_len - skip});
  }
  return rest;
}

// Sends and receives at once on one stream, in one thread, until both are through.
Status exchange(TlsStream& stream, std::vector<std::byte>& out, std::vector<std::byte>& in) {
  auto out_pieces = scatter(out);
  auto in_pieces = scatter(in);
  size_t sent = 0;
  size_t received = 0;
  while (sent < out.size() || received < in.size()) {
    auto to_send = rest_of(out_pieces, sent);
    VMHOP_ASSIGN(size_t put, stream.write_some(to_send.data(), to_send.size()));
    auto to_receive = rest_of(in_pieces, received);
    VMHOP_ASSIGN(size_t got, stream.read_some(to_receive.data(), to_receive.size()));
    sent += put;
    received += got;
    if (put > 0 || got > 0 || stream.has_buffered_input()) continue;
    short events = 0;
    if (sent < out.size()) events |= POLLOUT;
    if (received < in.size()) events |= POLLIN;
    VMHOP_ASSIGN(short ready, wait_fd(stream.fd(), events, kPatience));
    if (ready == 0) return errorf("stuck at {} sent, {} received", sent, received);
  }
  return ok_status();
}

TEST_F(ConnectedTls, CarriesMegabytesBothWaysThroughScatteredBuffers) {
  auto to_server = pattern(9'000'001, 1);
  auto to_client = pattern(7'654'321, 2);
  std::vector<std::byte> at_server(to_server.size());
  std::vector<std::byte> at_client(to_client.size());
  auto server =
      std::async(std::launch::async, [&] { return exchange(*server_, to_client, at_server); });
  Status client = exchange(*client_, to_server, at_client);
  Status served = server.get();
  ASSERT_TRUE(client.ok()) << client.error().message();
  ASSERT_TRUE(served.ok()) << served.error().message();
  EXPECT_TRUE(at_server == to_server);
  EXPECT_TRUE(at_client == to_client);
}

TEST_F(ConnectedTls, TakesNoMoreThanTheSocketAndLosesNothing) {
  // Nobody reads: the writer must be told so, with all that was not taken still its own.
  auto out = pattern(64 << 20, 3);
  size_t sent = 0;
  for (;;) {
    auto put = client_->write_some(std::span(out).subspan(sent));
    ASSERT_TRUE(put.ok());
    if (*put == 0) break;
    sent += *put;
  }
  ASSERT_LT(sent, out.size());
  std::vector<std::byte> in(out.size());
  auto reader =
      std::async(std::launch::async, [&] { return read_exactly(*server_, in, kPatience); });
  // Goes on in smaller portions than it had offered.
  Status written = ok_status();
  while (sent < out.size() && written.ok()) {
    size_t portion = std::min<size_t>(5000, out.size() - sent);
    written = write_exactly(*client_, std::span(out).subspan(sent, portion), kPatience);
    sent += portion;
  }
  ASSERT_TRUE(written.ok()) << written.error().message();
  ASSERT_TRUE(reader.get().ok());
  EXPECT_TRUE(in == out);
}

TEST_F(ConnectedTls, GoesOnWithAFreshKey) {
  auto out = pattern(100'000, 4);
  std::vector<std::byte> in(out.size());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client_->renew_key().ok());
    ASSERT_TRUE(write_exactly(*client_, out, kPatience).ok());
    ASSERT_TRUE(read_exactly(*server_, in, kPatience).ok());
    EXPECT_TRUE(in == out);
    ASSERT_TRUE(write_exactly(*server_, out, kPatience).ok());
    ASSERT_TRUE(read_exactly(*client_, in, kPatience).ok());
  }
}

TEST_F(ConnectedTls, KnowsWhatItDecryptedAlready) {
  std::array<std::byte, 100> out{};
  ASSERT_TRUE(write_exactly(*client_, out, kPatience).ok());
  ASSERT_GT(wait_fd(server_->fd(), POLLIN, kPatience).value(), 0);
  std::array<std::byte, 40> part{};
  EXPECT_EQ(server_->read_some(part).value(), 40U);
  EXPECT_TRUE(server_->has_buffered_input());
  EXPECT_EQ(server_->read_some(part).value(), 40U);
  EXPECT_EQ(server_->read_some(part).value(), 20U);
  EXPECT_FALSE(server_->has_buffered_input());
}

TEST_F(ConnectedTls, KnowsThatItHasAnErrorToTell) {
  std::array<std::byte, 10> out{};
  ASSERT_TRUE(write_exactly(*client_, out, kPatience).ok());
  // A record of the right shape, but nobody's, right behind.
  std::array<unsigned char, 5 + 32> forged{0x17, 0x03, 0x03, 0x00, 32};
  ASSERT_EQ(::send(client_->fd(), forged.data(), forged.size(), 0), std::ssize(forged));
  std::array<std::byte, 100> in{};
  Result<size_t> got = size_t{0};
  while (got.ok() && *got == 0)
    got = server_->read_some(in);
  ASSERT_TRUE(got.ok());
  // The record may have come after that.
  while (!server_->has_buffered_input() && got.ok()) {
    ASSERT_GT(wait_fd(server_->fd(), POLLIN, kPatience).value(), 0);
    got = server_->read_some(in);
  }
  EXPECT_FALSE(server_->read_some(in).ok());
  EXPECT_FALSE(server_->has_buffered_input());
}

TEST_F(ConnectedTls, ExportsTheSameSecretsOnBothSidesAndOneForEachLabel) {
  auto lane = client_->export_secret(kLaneSecretLabel).value();
  EXPECT_TRUE(lane == server_->export_secret(kLaneSecretLabel).value());
  EXPECT_FALSE(lane == client_->export_secret("another").value());
  auto second = shake_hands(psk_, psk_);
  EXPECT_FALSE(lane == second.client.value()->export_secret(kLaneSecretLabel).value());
}

TEST_F(ConnectedTls, UsesAesGcmAndTellsTheServerWhoCame) {
  EXPECT_EQ(client_->cipher(), "TLS_AES_128_GCM_SHA256");
  EXPECT_EQ(server_->identity(), kIdentity);
}

TEST_F(ConnectedTls, SaysWhenTheOtherSideIsGone) {
  std::array<std::byte, 3> last{};
  ASSERT_TRUE(write_exactly(*client_, last, kPatience).ok());
  client_.reset();
  std::array<std::byte, 3> in{};
  EXPECT_TRUE(read_exactly(*server_, in, kPatience).ok());
  Status end = read_exactly(*server_, in, kPatience);
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().kind(), ErrorKind::kClosed);
}

TEST_F(ConnectedTls, RefusesRecordsThatWereTamperedWith) {
  // A record of the right shape, but nobody's.
  std::array<unsigned char, 5 + 32> forged{0x17, 0x03, 0x03, 0x00, 32};
  ASSERT_EQ(::send(client_->fd(), forged.data(), forged.size(), 0), std::ssize(forged));
  std::array<std::byte, 3> in{};
  Status read = read_exactly(*server_, in, kPatience);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().kind(), ErrorKind::kClosed);
  EXPECT_FALSE(server_->has_buffered_input());
}

}  // namespace
}  // namespace vmhop

#include "cli/receive_request.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

#include "backend/base/fd.h"

namespace vmhop {
namespace {

using testing::HasSubstr;

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
  }
  UniqueFd read_end;
  UniqueFd write_end;
};

// What becomes of these bytes, and nothing after them.
std::string refusal_of(std::string_view bytes) {
  Pipe pipe;
  EXPECT_TRUE(write_all(pipe.write_end.get(), std::as_bytes(std::span(bytes))).ok());
  pipe.write_end.reset();
  auto read = read_receive_request(pipe.read_end.get());
  return read ? "" : read.error().message();
}

ReceiveRequest sample() {
  ReceiveRequest request;
  request.vm = "web";
  request.qemu = {"qemu", "-drive", "file=it's \"here\"; $(reboot),,", "\n", ""};
  request.directory = "/srv";
  request.port = 4455;
  request.transport.choice = TransportChoice::kTcp;
  request.transport.rdma_trusted = true;
  request.transport.bind = "node:1";
  request.lease = std::chrono::milliseconds(1500);
  return request;
}

TEST(ReceiveRequest, ArrivesAsItWasSentAndLeavesTheRest) {
  Pipe pipe;
  Secret key = Secret::random().value();
  ASSERT_TRUE(send_receive_request(pipe.write_end.get(), sample(), key).ok());
  ASSERT_EQ(::write(pipe.write_end.get(), "\n", 1), 1);
  auto received = read_receive_request(pipe.read_end.get());
  ASSERT_TRUE(received.ok()) << received.error().message();
  EXPECT_EQ(received->key, key);
  const ReceiveRequest& request = received->request;
  EXPECT_EQ(request.vm, "web");
  EXPECT_EQ(request.qemu, sample().qemu);
  EXPECT_EQ(request.directory, "/srv");
  EXPECT_EQ(request.port, 4455);
  EXPECT_EQ(request.transport, sample().transport);
  EXPECT_EQ(request.lease, std::chrono::milliseconds(1500));
  char sign = 0;
  EXPECT_EQ(::read(pipe.read_end.get(), &sign, 1), 1) << "a sign of life is not the request's";
}

TEST(ReceiveRequest, HasNoKeyInItsText) {
  Pipe pipe;
  Secret key = Secret::random().value();
  ASSERT_TRUE(send_receive_request(pipe.write_end.get(), sample(), key).ok());
  std::array<char, 4096> bytes{};
  ssize_t got = ::read(pipe.read_end.get(), bytes.data(), bytes.size());
  ASSERT_GT(got, static_cast<ssize_t>(Secret::kSize));
  std::string text(bytes.data(), static_cast<size_t>(got) - Secret::kSize);
  EXPECT_THAT(text, testing::EndsWith("}"));
  EXPECT_THAT(text, testing::Not(HasSubstr(key.to_hex())));
}

TEST(ReceiveRequest, OfAnotherVersionIsRefusedWithTheRemedy) {
  EXPECT_THAT(refusal_of("vmhop-receive 2 10\n"),
              HasSubstr("install the same vmhop on both hosts"));
}

TEST(ReceiveRequest, ThatIsNoneIsRefused) {
  for (std::string_view bytes :
       {"\n", "hello\n", "vmhop-receive \n", "vmhop-receive 1\n", "vmhop-receive 1 x\n",
        "vmhop-receive 1 99999999\n", "vmhop-receive 1 2 3\n", "vmhop-receive 1 2\n{}",
        "vmhop-receive 1 12\n{\"vm\":\"web\"}", "vmhop-receive 1 1\n{"}) {
    EXPECT_NE(refusal_of(bytes), "") << bytes;
  }
  EXPECT_THAT(refusal_of(std::string(1000, 'x')), HasSubstr("not a request"));
  EXPECT_THAT(refusal_of(""), HasSubstr("has gone"));
  // Without its key.
  EXPECT_THAT(refusal_of("vmhop-receive 1 26\n{\"vm\":\"web\",\"qemu\":[\"qe\"]}"),
              HasSubstr("has gone"));
}

}  // namespace
}  // namespace vmhop

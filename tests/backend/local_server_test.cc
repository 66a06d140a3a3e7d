#include "backend/local_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>

#include "tests/backend/memory_image.h"

namespace vmhop {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::must;

constexpr int kPatienceMs = 20'000;

TEST(ControlChannel, CarriesObjectsAndTheirDescriptors) {
  auto [left, right] = must(socket_pair(SOCK_SEQPACKET));
  ControlChannel sender(std::move(left));
  ControlChannel receiver(std::move(right));
  UniqueFd file = must(create_memfd("vmhop-test", 4096));
  std::array<int, 1> fds{file.get()};
  must(sender.send({{"cmd", "start"}, {"size", 5}}, fds));
  ControlMessage message = must(receiver.receive(kPatienceMs));
  EXPECT_EQ(message.body, (json{{"cmd", "start"}, {"size", 5}}));
  ASSERT_EQ(message.fds.size(), 1U);
  struct stat sent {};
  struct stat came {};
  ASSERT_EQ(::fstat(file.get(), &sent), 0);
  ASSERT_EQ(::fstat(message.fds[0].get(), &came), 0);
  EXPECT_EQ(sent.st_ino, came.st_ino);
}

TEST(ControlChannel, SaysWhenNothingComesAndWhenNobodyIsThere) {
  auto [left, right] = must(socket_pair(SOCK_SEQPACKET));
  ControlChannel channel(std::move(left));
  EXPECT_EQ(channel.receive(0).error().kind(), ErrorKind::kTimedOut);
  right.reset();
  EXPECT_EQ(channel.receive(0).error().kind(), ErrorKind::kClosed);
}

TEST(ControlChannel, RefusesWhatIsNotAnObject) {
  for (std::string_view text : {"", "5", "[1]", "{", "\"cmd\"", "{\"a\":\xff\xfe}"}) {
    auto [left, right] = must(socket_pair(SOCK_SEQPACKET));
    ControlChannel channel(std::move(left));
    must(send_with_fds(right.get(), std::as_bytes(std::span(text)), {}));
    EXPECT_FALSE(channel.receive(0).ok()) << text;
  }
}

TEST(ControlChannel, RefusesToSendMoreThanAMessageHolds) {
  auto [left, right] = must(socket_pair(SOCK_SEQPACKET));
  ControlChannel channel(std::move(left));
  EXPECT_FALSE(channel.send({{"text", std::string(ControlChannel::kMaxMessage, 'x')}}).ok());
}

TEST(ControlChannel, SendsStringsOfAnyBytes) {
  auto [left, right] = must(socket_pair(SOCK_SEQPACKET));
  ControlChannel sender(std::move(left));
  ControlChannel receiver(std::move(right));
  must(sender.send({{"text", "a\xff z"}}));
  EXPECT_THAT(must(receiver.receive(0)).body.at("text").get<std::string>(), HasSubstr("z"));
}

class LocalServerTest : public testing::Test {
 protected:
  LocalServerTest() : loop_(must(EventLoop::create())) {
    std::string name = testing::TempDir() + "vmhop-local-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    path_ = directory_ + "/x.sock";
    server_ = must(LocalServer::start(*loop_, path_, [](const json& request) -> json {
      std::string command = request.value("cmd", "");
      return {{"event", "answer"}, {"to", command}, {"text", request.value("text", "")}};
    }));
  }
  ~LocalServerTest() override { std::filesystem::remove_all(directory_); }

  json ask(ControlChannel& client, const json& request) {
    must(client.send(request));
    for (int i = 0; i < 10; ++i) {
      must(loop_->run_once(0));
      auto answer = client.receive(0);
      if (answer) return answer->body;
      if (answer.error().kind() != ErrorKind::kTimedOut)
        return {{"error", answer.error().message()}};
    }
    return {{"error", "no answer"}};
  }

  std::unique_ptr<EventLoop> loop_;
  std::string directory_;
  std::string path_;
  std::unique_ptr<LocalServer> server_;
};

TEST_F(LocalServerTest, AnswersSeveralClientsAgainAndAgain) {
  auto first = must(ControlChannel::connect(path_));
  auto second = must(ControlChannel::connect(path_));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ask(first, {{"cmd", "status"}}).at("to"), "status");
    EXPECT_EQ(ask(second, {{"cmd", "drop"}}).at("to"), "drop");
  }
}

TEST_F(LocalServerTest, AnswersARequestOfTheWrongShapeWithAnError) {
  auto client = must(ControlChannel::connect(path_));
  EXPECT_EQ(ask(client, {{"cmd", 5}}).at("event"), "error");
  EXPECT_EQ(ask(client, {{"cmd", "status"}}).at("to"), "status");
}

TEST_F(LocalServerTest, HangsUpOnWhatIsNoRequestAndServesTheOthers) {
  UniqueFd rude = must(connect_unix(path_, SOCK_SEQPACKET));
  must(send_with_fds(rude.get(), std::as_bytes(std::span("nonsense")), {}));
  auto client = must(ControlChannel::connect(path_));
  EXPECT_EQ(ask(client, {{"cmd", "status"}}).at("to"), "status");
  EXPECT_EQ(must(wait_fd(rude.get(), POLLIN, 0)) & POLLHUP, POLLHUP);
}

TEST_F(LocalServerTest, WaitsForNobodyWhoDoesNotReadHisAnswers) {
  auto lazy = must(ControlChannel::connect(path_));
  ASSERT_TRUE(set_nonblocking(lazy.fd()).ok());
  json request{{"cmd", "status"}, {"text", std::string(30'000, 'x')}};
  // Until he is dropped: blocking in an answer would block this loop for ever.
  for (int i = 0; i < 100 && lazy.send(request).ok(); ++i)
    must(loop_->run_once(0));
  auto client = must(ControlChannel::connect(path_));
  EXPECT_EQ(ask(client, {{"cmd", "status"}}).at("to"), "status");
}

// The loop has other things to do than to be told again and again of one that it cannot accept.
TEST_F(LocalServerTest, WaitsWithoutSpinningUntilThereAreDescriptorsAgain) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "UBSan asks by a pipe of its own whether an object may be read";
#endif
  auto first = must(ControlChannel::connect(path_));
  auto second = must(ControlChannel::connect(path_));
  UniqueFd lowest(::dup(first.fd()));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none{static_cast<rlim_t>(lowest.get()), before.rlim_max};
  lowest.reset();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  must(loop_->run_once(kPatienceMs));
  // Nothing is due before the pause is over: a round that spins would be back at once.
  auto begin = std::chrono::steady_clock::now();
  must(loop_->run_once(kPatienceMs));
  auto waited = std::chrono::steady_clock::now() - begin;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_GT(waited, std::chrono::milliseconds(20));
  EXPECT_EQ(ask(second, {{"cmd", "status"}}).at("to"), "status");
  EXPECT_EQ(ask(first, {{"cmd", "status"}}).at("to"), "status");
}

TEST_F(LocalServerTest, LeavesNoSocketBehindAndReplacesADeadOne) {
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
  UniqueFd dead = must(listen_unix(path_, SOCK_SEQPACKET));
  dead.reset();
  auto next = LocalServer::start(*loop_, path_, [](const json&) -> json { return json::object(); });
  EXPECT_TRUE(next.ok());
}

}  // namespace
}  // namespace vmhop

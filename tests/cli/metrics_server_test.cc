#include "cli/metrics_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <thread>

#include "backend/session/tcp.h"
#include "cli/vm_metrics.h"
#include "tests/cli/openmetrics.h"
#include "tests/cli/temporary_directory.h"

namespace vmhop {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr int kPatienceMs = 10'000;

class MetricsServerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create();
    ASSERT_TRUE(loop.ok());
    loop_ = std::move(*loop);
    auto listening = listen_tcp({"127.0.0.1", 0});
    ASSERT_TRUE(listening.ok()) << listening.error().message();
    port_ = *local_port(listening->get());
    auto server = MetricsServer::start(*loop_, std::move(*listening), base_.path());
    ASSERT_TRUE(server.ok());
    server_ = std::move(*server);
    thread_ = std::thread([this] { EXPECT_TRUE(loop_->run().ok()); });
  }
  ~MetricsServerTest() override {
    if (!thread_.joinable()) return;
    loop_->stop();
    thread_.join();
  }

  UniqueFd connect() const {
    auto socket = connect_tcp({"127.0.0.1", port_}, kPatienceMs);
    EXPECT_TRUE(socket.ok()) << socket.error().message();
    return socket ? std::move(*socket) : UniqueFd();
  }
  static void say(const UniqueFd& socket, const std::string& text) {
    EXPECT_EQ(::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  // Until the server closes.
  static std::string hear(const UniqueFd& socket) {
    std::string all;
    std::array<char, 4096> buffer{};
    for (;;) {
      auto ready = wait_fd(socket.get(), POLLIN, kPatienceMs);
      if (!ready || *ready == 0) return all + " (it goes on)";
      ssize_t got = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
      if (got <= 0) return all;
      all.append(buffer.data(), static_cast<size_t>(got));
    }
  }
  std::string ask(const std::string& request) const {
    UniqueFd socket = connect();
    say(socket, request);
    return hear(socket);
  }

  TemporaryDirectory base_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<MetricsServer> server_;
  std::thread thread_;
  uint16_t port_ = 0;
};

std::string body_of(const std::string& response) {
  size_t head = response.find("\r\n\r\n");
  return head == std::string::npos ? "" : response.substr(head + 4);
}

TEST_F(MetricsServerTest, GivesPrometheusTheFormatThatItAsksFor) {
  std::string open =
      ask("GET /metrics HTTP/1.1\r\nHost: x\r\nACCEPT: text/plain;q=0.5, "
          "application/openmetrics-text;version=1.0.0\r\n\r\n");
  EXPECT_THAT(open, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(open, HasSubstr("Content-Type: application/openmetrics-text; version=1.0.0"));
  auto read = parse_openmetrics(body_of(open));
  EXPECT_TRUE(read.ok()) << read.error().message();
  EXPECT_THAT(open, HasSubstr(fmt::format("Content-Length: {}\r\n", body_of(open).size())));

  std::string plain = ask("GET /metrics?x=y HTTP/1.0\r\n\r\n");
  EXPECT_THAT(plain, HasSubstr("Content-Type: text/plain; version=0.0.4"));
  EXPECT_EQ(body_of(plain), host_metrics(base_.path(), MetricsFormat::kPrometheus));
}

TEST_F(MetricsServerTest, TakesARequestInPieces) {
  UniqueFd socket = connect();
  for (const char* piece : {"GE", "T /metr", "ics HTTP/1.1\r", "\n\r", "\n"})
    say(socket, piece);
  EXPECT_THAT(hear(socket), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(MetricsServerTest, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(ask("GET / HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask("POST /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(ask("\r\n\r\n"), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(ask(std::string(9000, 'x')), StartsWith("HTTP/1.1 431 "));
  std::string head = ask("HEAD /metrics HTTP/1.1\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_EQ(body_of(head), "");
}

TEST_F(MetricsServerTest, LetsNobodyWaitForOneWhoSaysNothing) {
  UniqueFd silent = connect();
  UniqueFd gone = connect();
  say(gone, "GET /met");
  gone.reset();
  EXPECT_THAT(ask("GET /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

}  // namespace
}  // namespace vmhop

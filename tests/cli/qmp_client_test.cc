#include "cli/qmp_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <span>
#include <thread>

#include "tests/cli/scripted_qemu.h"
#include "tests/cli/temporary_directory.h"

namespace vmhop {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using testing::HasSubstr;

class QmpClientTest : public testing::Test {
 protected:
  QmpClient connect() {
    return QmpClient::connect(qemu_.path(), QmpClient::Clock::now() + std::chrono::seconds(10))
        .value();
  }

  TemporaryDirectory directory_;
  ScriptedQemu qemu_{directory_.path() + "/qmp"};
};

TEST_F(QmpClientTest, NegotiatesAndKnowsTheVersion) {
  EXPECT_EQ(connect().qemu_version(), "7.2.22");
  EXPECT_EQ(qemu_.count("qmp_capabilities"), 1U);
}

TEST_F(QmpClientTest, AnswersACommand) {
  auto client = connect();
  EXPECT_EQ(client.execute("query-status").value().at("status"), "running");
}

TEST_F(QmpClientTest, QueuesEventsThatComeBeforeTheAnswer) {
  auto client = connect();
  ASSERT_TRUE(client.execute("cont").ok());
  ASSERT_TRUE(client.has_queued_event());
  auto event = client.next_event(milliseconds(0)).value();
  EXPECT_EQ(event.name, "RESUME");
  EXPECT_EQ(event.timestamp_ns, 1'700'000'000'000'005'000);
}

TEST_F(QmpClientTest, WaitsForAnEventOnlyAsLongAsTold) {
  auto client = connect();
  auto event = client.next_event(milliseconds(1));
  ASSERT_FALSE(event.ok());
  EXPECT_EQ(event.error().kind(), ErrorKind::kTimedOut);
}

TEST_F(QmpClientTest, ReportsQemusErrors) {
  qemu_.on("device_add", [](const json&) { return qmp_error("no such device"); });
  auto client = connect();
  auto answer = client.execute("device_add");
  ASSERT_FALSE(answer.ok());
  EXPECT_THAT(answer.error().message(), HasSubstr("device_add: no such device (GenericError)"));
}

TEST_F(QmpClientTest, StaysUsableAfterATimeOut) {
  bool silent = true;
  qemu_.on("query-version", [&](const json&) -> std::optional<json> {
    if (std::exchange(silent, false)) return std::nullopt;
    return json("second");
  });
  auto client = connect();
  auto first = client.execute("query-version", nullptr, milliseconds(5));
  ASSERT_FALSE(first.ok());
  EXPECT_EQ(first.error().kind(), ErrorKind::kTimedOut);
  EXPECT_EQ(client.execute("query-version").value(), "second");
}

// What a QEMU would say that wants to end vmhop.
TEST_F(QmpClientTest, SurvivesTimesAndNestingThatNoQemuHas) {
  auto [qemu, socket] = socket_pair(SOCK_STREAM).value();
  std::string deep(100'000, '[');
  std::string said = R"({"QMP":{}})"
                     "\n"
                     R"({"id":1,"return":{}})"
                     "\n"
                     R"({"event":"A","timestamp":{"seconds":18446744073709551615}})"
                     "\n"
                     R"({"event":"B","timestamp":{"microseconds":18446744073709551615}})"
                     "\n"
                     R"({"event":"C","data":)" +
                     deep + std::string(deep.size(), ']') + "}\n";
  std::thread talk(
      [&] { EXPECT_TRUE(write_all(qemu.get(), std::as_bytes(std::span(said))).ok()); });
  auto client =
      QmpClient::over(std::move(socket), QmpClient::Clock::now() + std::chrono::seconds(10));
  talk.join();
  ASSERT_TRUE(client.ok()) << client.error().message();
  (void)client->process_input();
  EXPECT_EQ(client->take_event()->timestamp_ns,
            INT64_MAX / 1'000'000'000 * 1'000'000'000 - 1'000'000'000);
  EXPECT_EQ(client->take_event()->timestamp_ns, 999'999'000);
  EXPECT_FALSE(client->take_event()) << "nested too deep to be looked at";
}

TEST_F(QmpClientTest, ForgetsTheOldestOfMoreEventsThanAnybodyTakes) {
  auto [qemu, socket] = socket_pair(SOCK_STREAM).value();
  std::string begin = "{\"QMP\":{}}\n{\"id\":1,\"return\":{}}\n";
  ASSERT_TRUE(write_all(qemu.get(), std::as_bytes(std::span(begin))).ok());
  auto client =
      QmpClient::over(std::move(socket), QmpClient::Clock::now() + std::chrono::seconds(10));
  ASSERT_TRUE(client.ok()) << client.error().message();
  size_t count = 20'000;
  std::string said;
  for (size_t i = 0; i < count; ++i)
    said += fmt::format("{{\"event\":\"{}\"}}\n", i);
  std::thread talk([&, end = std::move(qemu)] {
    EXPECT_TRUE(write_all(end.get(), std::as_bytes(std::span(said))).ok());
    ::shutdown(end.get(), SHUT_RDWR);
  });
  while (client->process_input()) {
  }
  talk.join();
  size_t kept = 0;
  std::string latest;
  while (auto event = client->take_event()) {
    latest = event->name;
    ++kept;
  }
  EXPECT_LT(kept, count / 2);
  EXPECT_EQ(latest, std::to_string(count - 1));
}

TEST_F(QmpClientTest, NoticesThatQemuIsGone) {
  auto client = connect();
  qemu_.exit();
  auto answer = client.execute("query-status");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().kind(), ErrorKind::kClosed);
}

TEST_F(QmpClientTest, ConnectingGivesUpWhenQemuHasExited) {
  auto never = QmpClient::connect(
      directory_.path() + "/none", QmpClient::Clock::now() + std::chrono::seconds(60),
      [] { return Status(Error("QEMU exited with code 1", ErrorKind::kClosed)); });
  ASSERT_FALSE(never.ok());
  EXPECT_EQ(never.error().message(), "QEMU exited with code 1");
}

}  // namespace
}  // namespace vmhop
